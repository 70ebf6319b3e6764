// Progress of one long operation, shown to a person.
//
// On a terminal: one line redrawn in place, with bar, amount, rate and time
// left. Piped: a plain line every few percent or seconds. Silent: nothing, for
// programs that print JSON.
#ifndef CONSILIUM_BASE_PROGRESS_H_
#define CONSILIUM_BASE_PROGRESS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"

namespace consilium {

// Where the text goes. Progress calls it under its own lock.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void Write(std::string_view text) = 0;
};

// Writes to standard error. Lives for ever; the caller does not own it.
ProgressSink* StderrSink();

enum class ProgressMode { kTerminal, kPlain, kSilent };

// kSilent when `json`; else by whether standard error is a terminal.
ProgressMode DetectProgressMode(bool json);

struct ProgressOptions {
  enum class Unit { kBytes, kItems };

  ProgressMode mode = ProgressMode::kPlain;
  Unit unit = Unit::kBytes;
  int64_t total = 0;  // 0: not known; then no bar, percentage or time left

  // Terminal: least time between two drawings, and the line's width in
  // characters.
  absl::Duration redraw_interval = absl::Milliseconds(100);
  int width = 79;

  // Plain: a line when this much more is done, or this much time has passed.
  int percent_step = 10;
  absl::Duration line_interval = absl::Seconds(10);
};

// Thread-safe. Shows nothing before the first Update; Finish or Fail ends it,
// and the destructor ends a terminal line left open.
class Progress {
 public:
  // `clock` and `sink` outlive this.
  Progress(std::string label, const ProgressOptions& options, Clock* clock,
           ProgressSink* sink);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The amount done so far, in all. May go back, as after a resumed upload.
  void Update(int64_t done);

  // Update by a difference.
  void Advance(int64_t by);

  void SetTotal(int64_t total);

  // Text behind the figures, such as the phase; empty for none.
  void SetNote(std::string note);

  // The last line: what was done, in what time, at what rate.
  void Finish();
  void Fail(std::string_view reason);

 private:
  void UpdateLocked(int64_t done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Draw(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(std::string_view outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Amount(int64_t amount) const;
  std::string Figures() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int Percent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string label_;
  const ProgressOptions options_;
  Clock* const clock_;
  ProgressSink* const sink_;
  const absl::Duration started_;

  Mutex mutex_;
  int64_t total_ ABSL_GUARDED_BY(mutex_);
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t first_ ABSL_GUARDED_BY(mutex_) = 0;  // done at the first Update
  std::string note_ ABSL_GUARDED_BY(mutex_);
  double rate_ ABSL_GUARDED_BY(mutex_) = 0;  // units per second, smoothed
  absl::Duration sampled_at_ ABSL_GUARDED_BY(mutex_);
  int64_t sampled_done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration drawn_at_ ABSL_GUARDED_BY(mutex_);
  int drawn_percent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool line_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_PROGRESS_H_
