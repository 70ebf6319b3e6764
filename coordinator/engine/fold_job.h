// Spooled contributions in, a published version blob out.

#ifndef CONSILIUM_COORDINATOR_ENGINE_FOLD_JOB_H_
#define CONSILIUM_COORDINATOR_ENGINE_FOLD_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/aggregation/fold.h"
#include "consilium/base/cancel.h"
#include "consilium/base/clock.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/store/records.h"
#include "coordinator/store/store.h"

namespace consilium {

struct FoldJobInput {
  std::shared_ptr<const RoundContext> context;
  VersionRow base;
  struct Member {
    std::string institution;
    std::string contribution_id;
    std::string spool_path;
  };
  std::vector<Member> members;  // in institution order
  int64_t min_contributors = 1;
  int threads = 1;
  CancelToken cancel;
  Clock* clock = nullptr;
  // For the new version; used up once its file has its size. May be empty.
  std::shared_ptr<SpaceReservation> space;
};

// What one group got.
struct GroupOutcome {
  std::string group;
  int64_t contributors = 0;
  double weight = 0;  // in examples or tokens, as policy weighs the group
  bool held = false;
};

struct FoldJobResult {
  Sha256Digest digest;
  int64_t bytes = 0;
  std::vector<GroupOutcome> groups;
  std::vector<std::string> held_groups;
  int64_t elements_read = 0;
  absl::Duration fold_time;
  absl::Duration publish_time;
};

// Why a job failed, and what may help.
struct FoldJobFailure {
  absl::Status status;
  // The one whose spool could not be read. It is to blame unless `retryable`:
  // then it may have been the disk.
  std::optional<size_t> member;
  bool publishing = false;  // folded, but could not be made durable
  bool retryable = false;
  // Of this disk: it goes on once somebody made room.
  bool no_space() const;
};

// Folds and, when `publish`, makes the blob durable under its digest; without
// it, only the digest is computed (replay). The caller releases the blob after
// its row is committed. On error `failure` is filled.
absl::StatusOr<FoldJobResult> RunFoldJob(const FoldJobInput& input,
                                         Store& store, bool publish,
                                         FoldJobFailure* failure);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_FOLD_JOB_H_
