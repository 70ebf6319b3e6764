#ifndef CONSILIUM_CLIENT_SDK_SESSION_VERSION_CACHE_H_
#define CONSILIUM_CLIENT_SDK_SESSION_VERSION_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client_sdk/session/deps.h"
#include "client_sdk/session/transport.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/base/cancel.h"
#include "consilium/base/file.h"
#include "consilium/base/spare_files.h"
#include "consilium/client/options.h"
#include "consilium/client/types.h"

namespace consilium::client::internal {

// A version file in memory. Immutable; the mapping outlives the file's name.
struct OpenedVersion {
  Version version;
  std::string path;
  MappedFile file;
  SafetensorsView view;
};

// What was downloaded, by digest:
//
//   <state>/versions/<digest>.safetensors   checked before it got this name
//   <state>/versions/<digest>.part          a download cut short
//   <state>/versions/<digest>.done          how many of its bytes are good: a
//                                           spare has its size from the start
//   <state>/layouts/<digest>.txt
//
// Nothing here is synced: after a loss of power the digest, checked again by
// the first Open of a process, tells whether a file is still good. One caller
// at a time.
class VersionCache {
 public:
  struct Options {
    std::string state_dir;
    int cached_versions = 2;
    LayoutLimits layout;
    RetryPolicy retry;
    absl::Duration stall_timeout;
    SpareFiles* spares = nullptr;  // outlives the cache
  };
  using Greet = std::function<absl::Status(const CancelToken& cancel)>;

  static absl::StatusOr<std::unique_ptr<VersionCache>> Create(
      Options options, const SessionDeps& deps, EventSink* events,
      Transport* transport, Greet greet);

  absl::StatusOr<std::shared_ptr<const OpenedVersion>> Open(
      const Version& version, const Layout& layout,
      const Sha256Digest& layout_digest, const ProgressCallback& progress,
      const CancelToken& cancel);

  // Errors: FAILED_PRECONDITION for a layout that this build cannot read.
  absl::StatusOr<std::shared_ptr<const Layout>> OpenLayout(
      const Sha256Digest& digest, uint64_t bytes, const CancelToken& cancel);

 private:
  VersionCache(Options options, const SessionDeps& deps, EventSink* events,
               Transport* transport, Greet greet);

  std::string VersionPath(const Sha256Digest& digest) const;
  std::string PartPath(const Sha256Digest& digest) const;
  std::string MarkPath(const Sha256Digest& digest) const;
  absl::Status Fetch(const Version& version, const ProgressCallback& progress,
                     const CancelToken& cancel);
  // An open .part, and how many of its bytes an earlier call left good.
  absl::StatusOr<std::unique_ptr<File>> OpenPart(const Version& version,
                                                 bool resume, uint64_t* done);
  absl::Status CheckSpace(const Version& version, uint64_t bytes);
  absl::Status Forget(const Sha256Digest& digest);
  // The rest of a file that holds `*done` good bytes, hashed into `hasher`.
  absl::Status FetchRest(const Version& version, File& part, Hasher& hasher,
                         uint64_t* done, const ProgressCallback& progress,
                         const CancelToken& cancel);
  absl::Status CallDownload(const DownloadCall& call, const DownloadSink& sink,
                            const CancelToken& cancel);
  absl::Status Evict();
  // Of downloads cut short, as many as of versions are kept.
  absl::Status EvictParts();

  const Options options_;
  const SessionDeps deps_;
  EventSink* const events_;
  Transport* const transport_;
  const Greet greet_;
  const std::string versions_dir_;
  const std::string layouts_dir_;
  std::set<Sha256Digest> verified_;   // by this process
  std::vector<Sha256Digest> recent_;  // most recently used last
  // By digest, what was opened last.
  std::map<Sha256Digest, std::weak_ptr<const OpenedVersion>> opened_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_VERSION_CACHE_H_
