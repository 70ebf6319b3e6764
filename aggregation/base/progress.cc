#include "consilium/base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

// The shown rate forgets what happened about this long ago.
constexpr absl::Duration kRateMemory = absl::Seconds(5);
constexpr absl::Duration kRateSample = absl::Milliseconds(250);
constexpr int kBarWidth = 24;

class StderrSinkImpl final : public ProgressSink {
 public:
  void Write(std::string_view text) override {
    while (!text.empty()) {
      const ssize_t put = ::write(STDERR_FILENO, text.data(), text.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return;  // nobody reads; the operation itself goes on
      text.remove_prefix(static_cast<size_t>(put));
    }
  }
};

// Cut to `width` characters, not in the middle of a UTF-8 sequence.
std::string Fit(std::string text, int width) {
  int shown = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) == 0x80) continue;
    if (shown++ == width) {
      text.resize(i);
      break;
    }
  }
  return text;
}

}  // namespace

ProgressSink* StderrSink() {
  static StderrSinkImpl* const sink = new StderrSinkImpl;
  return sink;
}

ProgressMode DetectProgressMode(bool json) {
  if (json) return ProgressMode::kSilent;
  return ::isatty(STDERR_FILENO) ? ProgressMode::kTerminal
                                 : ProgressMode::kPlain;
}

Progress::Progress(std::string label, const ProgressOptions& options,
                   Clock* clock, ProgressSink* sink)
    : label_(std::move(label)),
      options_(options),
      clock_(clock),
      sink_(sink),
      started_(clock->Monotonic()),
      total_(options.total),
      sampled_at_(started_),
      drawn_at_(started_) {}

Progress::~Progress() {
  MutexLock lock(&mutex_);
  if (line_open_) sink_->Write("\n");
}

void Progress::Update(int64_t done) {
  MutexLock lock(&mutex_);
  UpdateLocked(done);
}

void Progress::Advance(int64_t by) {
  MutexLock lock(&mutex_);
  UpdateLocked(done_ + by);
}

void Progress::SetTotal(int64_t total) {
  MutexLock lock(&mutex_);
  total_ = total;
}

void Progress::SetNote(std::string note) {
  MutexLock lock(&mutex_);
  note_ = std::move(note);
}

void Progress::UpdateLocked(int64_t done) {
  if (ended_) return;
  const absl::Duration now = clock_->Monotonic();
  done_ = done;
  if (!begun_) {
    // What was done before, as by an upload that resumes, says nothing about
    // the rate.
    begun_ = true;
    first_ = sampled_done_ = done;
    sampled_at_ = now;
    Draw(now);
    return;
  }
  const absl::Duration passed = now - sampled_at_;
  if (passed >= kRateSample) {
    const double seconds = absl::ToDoubleSeconds(passed);
    const double rate =
        std::max(0.0, static_cast<double>(done - sampled_done_) / seconds);
    const double keep =
        rate_ == 0 ? 0 : std::exp(-absl::FDivDuration(passed, kRateMemory));
    rate_ = keep * rate_ + (1 - keep) * rate;
    sampled_at_ = now;
    sampled_done_ = done;
  }
  const absl::Duration quiet = now - drawn_at_;
  const bool due =
      options_.mode == ProgressMode::kTerminal
          ? quiet >= options_.redraw_interval
          : quiet >= options_.line_interval ||
                Percent() >= drawn_percent_ + options_.percent_step;
  if (due) Draw(now);
}

int Progress::Percent() const {
  if (total_ <= 0) return 0;
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  return static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
}

std::string Progress::Amount(int64_t amount) const {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(amount, 0));
  return options_.unit == ProgressOptions::Unit::kBytes ? FormatBytes(value)
                                                        : Cat(value);
}

// "1.1 GiB of 2.7 GiB, 310 MiB/s, 5.2s left, note"
std::string Progress::Figures() const {
  std::string out = Amount(done_);
  if (total_ > 0) CatInto(out, " of ", Amount(total_));
  if (rate_ > 0) {
    CatInto(out, ", ",
            options_.unit == ProgressOptions::Unit::kItems && rate_ < 10
                ? Cat(absl::SixDigits(std::round(rate_ * 10) / 10))
                : Amount(std::llround(rate_)),
            "/s");
    if (total_ > done_) {
      const double seconds = static_cast<double>(total_ - done_) / rate_;
      CatInto(out, ", ", FormatDuration(absl::Seconds(seconds)), " left");
    }
  }
  if (!note_.empty()) CatInto(out, ", ", note_);
  return out;
}

void Progress::Draw(absl::Duration now) {
  drawn_at_ = now;
  drawn_percent_ = Percent();
  if (options_.mode == ProgressMode::kSilent) return;
  const std::string percent = total_ > 0 ? Cat(drawn_percent_, " %") : "";
  if (options_.mode == ProgressMode::kPlain) {
    sink_->Write(Cat(label_, ": ", percent, percent.empty() ? "" : ", ",
                     Figures(), "\n"));
    return;
  }
  std::string line = label_;
  if (total_ > 0) {
    const int full = drawn_percent_ * kBarWidth / 100;
    CatInto(line, " [", std::string(static_cast<size_t>(full), '#'),
            std::string(static_cast<size_t>(kBarWidth - full), '.'), "] ",
            percent);
  }
  CatInto(line, " ", Figures());
  // Back to the first column, then wipe what a longer line left behind.
  sink_->Write(Cat("\r", Fit(std::move(line), options_.width), "\x1b[K"));
  line_open_ = true;
}

void Progress::End(std::string_view outcome) {
  if (std::exchange(ended_, true)) return;
  if (options_.mode == ProgressMode::kSilent) return;
  sink_->Write(Cat(line_open_ ? "\r" : "", label_, ": ", outcome,
                   line_open_ ? "\x1b[K\n" : "\n"));
  line_open_ = false;
}

void Progress::Finish() {
  MutexLock lock(&mutex_);
  const absl::Duration took = clock_->Monotonic() - started_;
  std::string text = Cat(Amount(done_), " in ", FormatDuration(took));
  if (took > absl::ZeroDuration() && done_ > first_) {
    const double rate =
        static_cast<double>(done_ - first_) / absl::ToDoubleSeconds(took);
    CatInto(text, " (", Amount(std::llround(rate)), "/s)");
  }
  End(text);
}

void Progress::Fail(std::string_view reason) {
  MutexLock lock(&mutex_);
  End(Cat("failed after ", FormatDuration(clock_->Monotonic() - started_),
          " at ", Amount(done_), ": ", reason));
}

}  // namespace consilium
