#include "coordinator/engine/work_board.h"

#include <algorithm>
#include <set>
#include <utility>

namespace consilium {

uint64_t WorkBoard::Add(std::string_view institution, uint64_t known_revision,
                        absl::Duration until, Done done) {
  {
    MutexLock lock(&mu_);
    if (!closed_) {
      const uint64_t id = next_id_++;
      waiters_.emplace(id, Waiter{std::string(institution), known_revision,
                                  until, std::move(done)});
      return id;
    }
  }
  done(Why::kDropped);
  return 0;
}

template <typename Match>
void WorkBoard::AnswerIf(Match match, Why why) {
  std::vector<Done> answered;
  {
    MutexLock lock(&mu_);
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      if (match(it->first, it->second)) {
        answered.push_back(std::move(it->second.done));
        it = waiters_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (Done& done : answered) done(why);
}

void WorkBoard::Drop(uint64_t id) {
  Done done;
  {
    MutexLock lock(&mu_);
    const auto it = waiters_.find(id);
    if (it == waiters_.end()) return;
    done = std::move(it->second.done);
    waiters_.erase(it);
  }
  done(Why::kDropped);
}

void WorkBoard::Wake(std::string_view institution, uint64_t revision) {
  AnswerIf(
      [&](uint64_t, const Waiter& waiter) {
        return waiter.institution == institution &&
               waiter.known_revision != revision;
      },
      Why::kChanged);
}

void WorkBoard::WakeAll(std::string_view institution) {
  AnswerIf(
      [&](uint64_t, const Waiter& waiter) {
        return waiter.institution == institution;
      },
      Why::kChanged);
}

absl::Duration WorkBoard::Expire(absl::Duration now) {
  AnswerIf([&](uint64_t, const Waiter& waiter) { return waiter.until <= now; },
           Why::kTimeout);
  MutexLock lock(&mu_);
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, waiter] : waiters_) {
    next = std::min(next, waiter.until);
  }
  return next;
}

std::vector<std::string> WorkBoard::Waiting() const {
  std::set<std::string> names;
  MutexLock lock(&mu_);
  for (const auto& [id, waiter] : waiters_) names.insert(waiter.institution);
  return {names.begin(), names.end()};
}

size_t WorkBoard::size() const {
  MutexLock lock(&mu_);
  return waiters_.size();
}

void WorkBoard::CloseAll() {
  {
    MutexLock lock(&mu_);
    closed_ = true;
  }
  AnswerIf([](uint64_t, const Waiter&) { return true; }, Why::kDropped);
}

}  // namespace consilium
