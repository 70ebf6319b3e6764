// Rounds that begin by themselves.

#include <string>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/schedule.h"
#include "coordinator/store/tables.h"

namespace consilium {

void Engine::RunDue(absl::Time now) {
  if (unserved_.has_value() && unserved_->again_at <= now) {
    ServeStoredVersion(std::string(unserved_->why));
    AfterChange(0);
  }
  std::vector<int64_t> due;
  for (const auto& [id, live] : rounds_) {
    if ((live->wake.has_value() && *live->wake <= now) ||
        (live->owed.has_value() && live->owed->again_at <= now)) {
      due.push_back(id);
    }
  }
  for (const int64_t id : due) {
    LiveRound* const live = FindLive(id);
    if (live == nullptr) continue;
    const RoundEvent event =
        live->owed.has_value() ? live->owed->event : RoundEvent(Tick{});
    live->wake.reset();
    live->owed.reset();
    const absl::Status stepped = Step(*live, event).status();
    if (!stepped.ok()) {
      Owe(*live, event, stepped);
    } else if (!live->wake.has_value()) {
      live->wake = NextWake(live->state);
    }
  }
}

void Engine::Owe(LiveRound& live, RoundEvent event, const absl::Status& why) {
  live.trouble = Cat(RoundEventName(event),
                     " could not be stored: ", StdView(why.message()));
  Log("error", live.state.id, "", live.trouble);
  live.owed = LiveRound::Owed{std::move(event),
                              deps_.clock->Now() + options_.failure_pause};
  Kick();
}

absl::Time Engine::ScheduleNow() { return NowFor(schedule_); }

absl::Time Engine::NowFor(const ScheduleRow& schedule) {
  return schedule.kind == "cron" ? WallNow() : deps_.clock->Now();
}

void Engine::RunSchedule() {
  if (!started_ || stopping_) return;
  const absl::Time now = ScheduleNow();
  const auto schedule = Schedule::Create(schedule_.kind, schedule_.expression,
                                         schedule_.time_zone);
  if (!schedule.ok()) {
    Log("error", 0, "",
        Cat("schedule: ", StdView(schedule.status().message())));
    return;
  }
  if (schedule->kind() == ScheduleKind::kManual) return;
  bool free = current_.has_value();
  for (const auto& [id, live] : rounds_) {
    free = free && AllowsNextRound(live->state);
  }
  // A fire that meets a running round waits for its end.
  if (!free) return;
  const bool failed = std::exchange(round_failed_, false);
  if (failed && schedule->kind() == ScheduleKind::kContinuous) {
    StoreNextFire(now + options_.failure_pause);
    return;
  }
  const ScheduleStep step =
      StepSchedule(*schedule, schedule_.updated_at, schedule_.paused,
                   schedule_.next_at, now);
  std::optional<absl::Time> next_at = step.next_at;
  if (step.fire) {
    ScheduleRow after = schedule_;
    after.next_at = next_at;
    const auto started = StartLocked("coordinator", {}, {}, schedule_.kind,
                                     schedule->Describe(), &after);
    if (!started.ok()) {
      Log("warn", 0, "",
          Cat("scheduled round not started: ",
              StdView(started.status().message())));
      if (schedule->kind() == ScheduleKind::kContinuous) {
        next_at = now + options_.failure_pause;
      }
    }
  }
  if (next_at != schedule_.next_at) StoreNextFire(next_at);
}

void Engine::StoreNextFire(std::optional<absl::Time> next_at) {
  schedule_.next_at = next_at;
  const ScheduleRow row = schedule_;
  const absl::Status stored = deps_.store->history().Write(
      [&](WriteTx& tx) { return consilium::SetSchedule(tx, row); });
  if (!stored.ok()) {
    Log("error", 0, "", Cat("schedule: ", StdView(stored.message())));
  }
}

absl::Status Engine::SetSchedule(const std::string& actor,
                                 const ScheduleRow& wanted,
                                 const std::string& reason) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const Schedule schedule,
      Schedule::Create(wanted.kind, wanted.expression, wanted.time_zone));
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  ScheduleRow row = schedule_;
  row.kind = std::string(ScheduleKindName(schedule.kind()));
  row.expression = schedule.expression();
  row.time_zone = schedule.time_zone();
  const absl::Time from = NowFor(row);
  row.next_at = schedule.kind() == ScheduleKind::kContinuous
                    ? std::optional<absl::Time>(from)
                    : schedule.NextFire(from, from);
  row.updated_at = now;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(consilium::SetSchedule(tx, row));
        return AppendAudit(tx, NewAudit(now, actor, "schedule.set",
                                        schedule.Describe(), reason))
            .status();
      }));
  schedule_ = row;
  AfterChange(0);
  return absl::OkStatus();
}

absl::Status Engine::PauseSchedule(const std::string& actor, bool paused,
                                   const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  ScheduleRow row = schedule_;
  row.paused = paused;
  if (schedule_.paused && !paused && row.kind != "continuous") {
    // What passed meanwhile is dropped, also when a round has kept
    // RunSchedule() from doing so.
    CONSILIUM_ASSIGN_OR_RETURN(
        const Schedule schedule,
        Schedule::Create(row.kind, row.expression, row.time_zone));
    row.next_at = schedule.NextFire(NowFor(row), row.updated_at);
  }
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(consilium::SetSchedule(tx, row));
        return AppendAudit(
                   tx, NewAudit(now, actor,
                                paused ? "schedule.pause" : "schedule.resume",
                                row.kind, reason))
            .status();
      }));
  schedule_ = row;
  AfterChange(0);
  return absl::OkStatus();
}

}  // namespace consilium
