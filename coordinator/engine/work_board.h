// Long polls: institutions waiting for their work to change.

#ifndef CONSILIUM_COORDINATOR_ENGINE_WORK_BOARD_H_
#define CONSILIUM_COORDINATOR_ENGINE_WORK_BOARD_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "consilium/base/mutex.h"

namespace consilium {

// Keeps the waiters; what an institution's work is, the owner knows. A waiter
// is answered exactly once: by Wake, by Expire, by Drop or by CloseAll.
// Callbacks run on the calling thread, outside the lock. Thread-safe.
class WorkBoard {
 public:
  enum class Why { kChanged, kTimeout, kDropped };
  using Done = absl::AnyInvocable<void(Why)>;

  // `until` is by the monotonic clock. Returns an id for Drop. A board that is
  // closed answers kDropped at once.
  uint64_t Add(std::string_view institution, uint64_t known_revision,
               absl::Duration until, Done done);

  // The call went away: forgets the waiter, answering it kDropped. No-op when
  // it was answered already.
  void Drop(uint64_t id);

  // Answers those waiters of `institution` whose known revision is not
  // `revision`.
  void Wake(std::string_view institution, uint64_t revision);
  // All waiters of `institution`, whatever they know.
  void WakeAll(std::string_view institution);

  // Answers all whose time is up. Returns when to call again; infinite when
  // nobody waits.
  absl::Duration Expire(absl::Duration now);

  // Names with at least one waiter.
  std::vector<std::string> Waiting() const;
  size_t size() const;

  // Answers everybody, and from now on everybody who comes, with kDropped.
  void CloseAll();

 private:
  struct Waiter {
    std::string institution;
    uint64_t known_revision = 0;
    absl::Duration until;
    Done done;
  };
  template <typename Match>
  void AnswerIf(Match match, Why why);

  mutable Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_WORK_BOARD_H_
