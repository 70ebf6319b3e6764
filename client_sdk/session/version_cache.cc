#include "client_sdk/session/version_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "client_sdk/session/retrier.h"
#include "client_sdk/session/timer_thread.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium::client::internal {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr absl::Duration kProgressEvery = absl::Milliseconds(100);
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kPartSuffix = ".part";
constexpr std::string_view kMarkSuffix = ".done";
// A killed process downloads at most this much again.
constexpr uint64_t kMarkEvery = uint64_t{8} << 20;

absl::Status HashPrefix(File& file, uint64_t bytes, Hasher& hasher) {
  std::vector<std::byte> block(
      static_cast<size_t>(std::min<uint64_t>(bytes, kBlockBytes)));
  for (uint64_t at = 0; at < bytes;) {
    const size_t want =
        static_cast<size_t>(std::min<uint64_t>(block.size(), bytes - at));
    const std::span<std::byte> piece(block.data(), want);
    CONSILIUM_RETURN_IF_ERROR(
        ReadExactlyAt(&file, static_cast<int64_t>(at), piece));
    hasher.Update(piece);
    at += want;
  }
  return absl::OkStatus();
}

absl::Status WrongDigest(std::string_view what, const Sha256Digest& got,
                         const Sha256Digest& want) {
  return absl::DataLossError(
      Cat(what, " has digest ", got.Hex(), "; announced was ", want.Hex()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<VersionCache>> VersionCache::Create(
    Options options, const SessionDeps& deps, EventSink* events,
    Transport* transport, Greet greet) {
  std::unique_ptr<VersionCache> cache(new VersionCache(
      std::move(options), deps, events, transport, std::move(greet)));
  CONSILIUM_RETURN_IF_ERROR(deps.fs->MakeDirs(cache->versions_dir_));
  CONSILIUM_RETURN_IF_ERROR(deps.fs->MakeDirs(cache->layouts_dir_));
  // The order of use of an earlier process, from the times of its files.
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             deps.fs->List(cache->versions_dir_));
  std::vector<std::pair<absl::Time, Sha256Digest>> found;
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, AbslView(kSuffix))) continue;
    const auto digest = Sha256Digest::FromHex(
        std::string_view(name).substr(0, name.size() - kSuffix.size()));
    const auto info = deps.fs->Stat(JoinPath(cache->versions_dir_, name));
    if (digest.ok() && info.ok()) found.push_back({info->modified, *digest});
  }
  std::sort(found.begin(), found.end());
  for (const auto& [time, digest] : found) cache->recent_.push_back(digest);
  return cache;
}

VersionCache::VersionCache(Options options, const SessionDeps& deps,
                           EventSink* events, Transport* transport, Greet greet)
    : options_(std::move(options)),
      deps_(deps),
      events_(events),
      transport_(transport),
      greet_(std::move(greet)),
      versions_dir_(JoinPath(options_.state_dir, "versions")),
      layouts_dir_(JoinPath(options_.state_dir, "layouts")) {}

std::string VersionCache::VersionPath(const Sha256Digest& digest) const {
  return JoinPath(versions_dir_, digest.Hex() + std::string(kSuffix));
}

std::string VersionCache::PartPath(const Sha256Digest& digest) const {
  return JoinPath(versions_dir_, digest.Hex() + std::string(kPartSuffix));
}

std::string VersionCache::MarkPath(const Sha256Digest& digest) const {
  return JoinPath(versions_dir_, digest.Hex() + std::string(kMarkSuffix));
}

absl::StatusOr<std::shared_ptr<const OpenedVersion>> VersionCache::Open(
    const Version& version, const Layout& layout,
    const Sha256Digest& layout_digest, const ProgressCallback& progress,
    const CancelToken& cancel) {
  if (const auto open = opened_.find(version.digest); open != opened_.end()) {
    auto live = open->second.lock();
    if (live != nullptr && live->version == version) {
      std::erase(recent_, version.digest);
      recent_.push_back(version.digest);
      return live;
    }
  }
  const std::string path = VersionPath(version.digest);
  if (deps_.fs->Exists(path) && !verified_.contains(version.digest)) {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                               deps_.fs->Open(path, {}));
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, file->Size());
    const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
    CONSILIUM_RETURN_IF_ERROR(
        HashPrefix(*file, static_cast<uint64_t>(size), *hasher));
    if (hasher->Finish() == version.digest) {
      verified_.insert(version.digest);
    } else {
      events_->Warning(0, Cat("cached version ", version.number,
                              " is damaged; it is downloaded again"));
      CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(path));
    }
  }
  if (!deps_.fs->Exists(path)) {
    CONSILIUM_RETURN_IF_ERROR(Fetch(version, progress, cancel));
    verified_.insert(version.digest);
  }
  {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                               deps_.fs->Open(path, {}));
    auto info = ReadVersionFile(file.get(), layout, layout_digest);
    if (!info.ok()) {
      return Annotate(info.status(), Cat("version ", version.number));
    }
  }
  auto opened = std::make_shared<OpenedVersion>();
  opened->version = version;
  opened->path = path;
  CONSILIUM_ASSIGN_OR_RETURN(opened->file, MappedFile::Open(path));
  CONSILIUM_ASSIGN_OR_RETURN(
      opened->view,
      SafetensorsView::Parse(opened->file.bytes(), VersionFileLimits(layout)));
  std::erase(recent_, version.digest);
  recent_.push_back(version.digest);
  opened_[version.digest] = opened;
  CONSILIUM_RETURN_IF_ERROR(Evict());
  return std::shared_ptr<const OpenedVersion>(std::move(opened));
}

absl::StatusOr<std::unique_ptr<File>> VersionCache::OpenPart(
    const Version& version, bool resume, uint64_t* done) {
  const std::string path = PartPath(version.digest);
  *done = 0;
  if (resume) {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> part,
                               deps_.fs->Open(path, {.write = true}));
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, part->Size());
    const auto mark =
        ReadWholeFile(deps_.fs, MarkPath(version.digest), sizeof(uint64_t));
    if (mark.ok() && mark->size() == sizeof(uint64_t)) {
      const uint64_t good = LoadLittleEndian<uint64_t>(AsBytes(*mark).data());
      if (good <= version.bytes && good <= static_cast<uint64_t>(size)) {
        *done = good;
      }
    }
    return part;
  }
  if (deps_.fs->Exists(path)) CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(path));
  if (options_.spares != nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(
        std::unique_ptr<File> part,
        options_.spares->Take(path, static_cast<int64_t>(version.bytes)));
    if (part != nullptr) return part;
  }
  return deps_.fs->Open(path, {.write = true, .create = true});
}

absl::Status VersionCache::CheckSpace(const Version& version, uint64_t bytes) {
  const auto free_bytes = [this]() -> absl::StatusOr<uint64_t> {
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t free,
                               deps_.fs->FreeSpace(versions_dir_));
    return static_cast<uint64_t>(std::max<int64_t>(free, 0));
  };
  CONSILIUM_ASSIGN_OR_RETURN(uint64_t free, free_bytes());
  if (free < bytes && options_.spares != nullptr) {
    CONSILIUM_RETURN_IF_ERROR(options_.spares->Clear());
    CONSILIUM_ASSIGN_OR_RETURN(free, free_bytes());
  }
  if (free >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Cat("version ", version.number, " needs ", FormatBytes(bytes), " in ",
          versions_dir_, ", where ", FormatBytes(free),
          " are free; make room or set state_dir to a larger disk"));
}

absl::Status VersionCache::Fetch(const Version& version,
                                 const ProgressCallback& progress,
                                 const CancelToken& cancel) {
  const std::string path = PartPath(version.digest);
  // A prefix that another process left may be damaged, so that the digest of
  // the whole comes out wrong: then once more, from the first byte.
  for (bool resumed = deps_.fs->Exists(path);; resumed = false) {
    uint64_t done = 0;
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> part,
                               OpenPart(version, resumed, &done));
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, part->Size());
    if (static_cast<uint64_t>(size) < version.bytes) {
      CONSILIUM_RETURN_IF_ERROR(
          CheckSpace(version, version.bytes - static_cast<uint64_t>(size)));
    }
    const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
    CONSILIUM_RETURN_IF_ERROR(HashPrefix(*part, done, *hasher));
    CONSILIUM_RETURN_IF_ERROR(
        FetchRest(version, *part, *hasher, &done, progress, cancel));
    const Sha256Digest digest = hasher->Finish();
    if (static_cast<uint64_t>(size) > version.bytes) {
      CONSILIUM_RETURN_IF_ERROR(
          part->Truncate(static_cast<int64_t>(version.bytes)));
    }
    CONSILIUM_RETURN_IF_ERROR(part->Close());
    CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(MarkPath(version.digest)));
    if (digest == version.digest) break;
    CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(path));
    if (!resumed) {
      return WrongDigest(Cat("version ", version.number), digest,
                         version.digest);
    }
  }
  return deps_.fs->Rename(path, VersionPath(version.digest));
}

absl::Status VersionCache::FetchRest(const Version& version, File& part,
                                     Hasher& hasher, uint64_t* done,
                                     const ProgressCallback& progress,
                                     const CancelToken& cancel) {
  const std::string what = Cat("download of version ", version.number);
  Retrier retrier(options_.retry, deps_, events_, 0, cancel);
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> mark,
                             deps_.fs->Open(MarkPath(version.digest),
                                            {.write = true, .create = true}));
  const auto set_mark = [&]() -> absl::Status {
    std::byte bytes[sizeof(uint64_t)];
    StoreLittleEndian<uint64_t>(*done, bytes);
    return mark->WriteAt(0, bytes);
  };
  absl::Duration reported = -absl::InfiniteDuration();
  while (*done < version.bytes) {
    absl::Status local;  // an error of this side is not the network's
    const uint64_t before = *done;
    const auto sink = [&](uint64_t total, uint64_t offset,
                          std::span<const std::byte> bytes) {
      if (total != version.bytes || offset != *done ||
          bytes.size() > version.bytes - *done) {
        local = absl::DataLossError(Cat("version ", version.number, ": got ",
                                        bytes.size(), " bytes at ", offset,
                                        " of ", total, "; expected was byte ",
                                        *done, " of ", version.bytes));
        return local;
      }
      hasher.Update(bytes);
      local = part.WriteAt(static_cast<int64_t>(*done), bytes);
      if (!local.ok()) return local;
      const uint64_t marks = *done / kMarkEvery;
      *done += bytes.size();
      if (*done / kMarkEvery != marks) local = set_mark();
      if (!local.ok()) return local;
      if (progress) {
        const absl::Duration now = deps_.clock->Monotonic();
        if (*done == version.bytes || now - reported >= kProgressEvery) {
          reported = now;
          progress({TransferProgress::Phase::kDownload, *done, version.bytes});
        }
      }
      return absl::OkStatus();
    };
    absl::Status status;
    if (retrier.failing()) status = greet_(cancel);
    if (status.ok()) {
      status = CallDownload(
          {DownloadCall::What::kVersion, version.digest, *done}, sink, cancel);
    }
    CONSILIUM_RETURN_IF_ERROR(local);
    if (*done == version.bytes) break;
    if (*done > before) {
      CONSILIUM_RETURN_IF_ERROR(set_mark());
      retrier.MadeProgress();
    }
    if (status.ok()) {
      status = absl::UnavailableError(
          Cat("the stream ended at byte ", *done, " of ", version.bytes));
    }
    CONSILIUM_RETURN_IF_ERROR(retrier.Failed(status, what));
  }
  return absl::OkStatus();
}

absl::Status VersionCache::CallDownload(const DownloadCall& call,
                                        const DownloadSink& sink,
                                        const CancelToken& cancel) {
  CancelSource source(cancel);
  Watchdog watchdog(options_.stall_timeout, [&source] {
    source.Cancel("nothing arrived for stall_timeout");
  });
  absl::Status status = transport_->Download(
      call,
      [&](uint64_t total, uint64_t offset, std::span<const std::byte> bytes) {
        watchdog.Kick();
        return sink(total, offset, bytes);
      },
      {source.token(), absl::InfiniteDuration()});
  if (!status.ok() && watchdog.stalled() && !cancel.cancelled()) {
    return absl::DeadlineExceededError(
        Cat("nothing arrived for ", FormatDuration(options_.stall_timeout),
            " (stall_timeout)"));
  }
  return status;
}

absl::StatusOr<std::shared_ptr<const Layout>> VersionCache::OpenLayout(
    const Sha256Digest& digest, uint64_t bytes, const CancelToken& cancel) {
  const LayoutLimits& limits = options_.layout;
  if (bytes > static_cast<uint64_t>(limits.max_text_bytes)) {
    return absl::FailedPreconditionError(
        Cat("the federation's layout has ", FormatBytes(bytes),
            "; limits.max_layout_bytes of this institution is ",
            FormatBytes(static_cast<uint64_t>(limits.max_text_bytes))));
  }
  const std::string path = JoinPath(layouts_dir_, digest.Hex() + ".txt");
  std::string text;
  if (deps_.fs->Exists(path)) {
    CONSILIUM_ASSIGN_OR_RETURN(
        text, ReadWholeFile(deps_.fs, path, limits.max_text_bytes));
  }
  if (Sha256(text) != digest) {
    text.clear();
    Retrier retrier(options_.retry, deps_, events_, 0, cancel);
    while (text.size() < bytes) {
      const auto sink = [&](uint64_t total, uint64_t offset,
                            std::span<const std::byte> part) {
        if (total != bytes || offset != text.size() ||
            part.size() > bytes - text.size()) {
          return absl::DataLossError(Cat("the layout arrived with ", total,
                                         " bytes; announced were ", bytes));
        }
        text.append(AsChars(part));
        return absl::OkStatus();
      };
      const size_t before = text.size();
      absl::Status status = CallDownload(
          {DownloadCall::What::kLayout, digest, text.size()}, sink, cancel);
      if (text.size() == bytes) break;
      if (text.size() > before) retrier.MadeProgress();
      if (status.ok()) {
        status = absl::UnavailableError("the stream ended early");
      }
      CONSILIUM_RETURN_IF_ERROR(
          retrier.Failed(status, "download of the layout"));
    }
    if (const Sha256Digest got = Sha256(text); got != digest) {
      return WrongDigest("the layout", got, digest);
    }
    CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(deps_.fs, path, AsBytes(text)));
  }
  auto layout = Layout::Parse(text, limits);
  if (!layout.ok()) {
    return absl::FailedPreconditionError(
        Cat("the federation's layout cannot be read here: ",
            StdView(layout.status().message())));
  }
  return std::make_shared<const Layout>(*std::move(layout));
}

absl::Status VersionCache::Forget(const Sha256Digest& digest) {
  const std::string path = VersionPath(digest);
  if (!deps_.fs->Exists(path)) return absl::OkStatus();
  opened_.erase(digest);
  // A mapping outlives the file's name, but not other bytes in it. Somebody may
  // still hold one that an earlier session gave out.
  if (options_.spares == nullptr || MappedFile::IsMapped(path)) {
    return deps_.fs->Remove(path);
  }
  return options_.spares->Retire(path);
}

absl::Status VersionCache::Evict() {
  const auto keep = static_cast<size_t>(options_.cached_versions);
  while (recent_.size() > keep) {
    const Sha256Digest digest = recent_.front();
    recent_.erase(recent_.begin());
    verified_.erase(digest);
    CONSILIUM_RETURN_IF_ERROR(Forget(digest));
  }
  return EvictParts();
}

absl::Status VersionCache::EvictParts() {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             deps_.fs->List(versions_dir_));
  std::vector<std::pair<absl::Time, std::string>> parts;  // without suffix
  for (const std::string& name : names) {
    const std::string path = JoinPath(versions_dir_, name);
    if (absl::EndsWith(name, AbslView(kPartSuffix))) {
      const auto info = deps_.fs->Stat(path);
      parts.push_back({info.ok() ? info->modified : absl::InfinitePast(),
                       path.substr(0, path.size() - kPartSuffix.size())});
    } else if (absl::EndsWith(name, AbslView(kMarkSuffix)) &&
               !deps_.fs->Exists(
                   Cat(path.substr(0, path.size() - kMarkSuffix.size()),
                       kPartSuffix))) {
      CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(path));
    }
  }
  std::sort(parts.begin(), parts.end());
  while (parts.size() > static_cast<size_t>(options_.cached_versions)) {
    const std::string& oldest = parts.front().second;
    CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(Cat(oldest, kPartSuffix)));
    const std::string mark = Cat(oldest, kMarkSuffix);
    if (deps_.fs->Exists(mark)) {
      CONSILIUM_RETURN_IF_ERROR(deps_.fs->Remove(mark));
    }
    parts.erase(parts.begin());
  }
  return absl::OkStatus();
}

}  // namespace consilium::client::internal
