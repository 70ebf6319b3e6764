#include "coordinator/store/spool_syncer.h"

#include <algorithm>
#include <utility>

#include "consilium/base/clock.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/spool_format.h"

namespace consilium {
namespace {

// Dirty bytes after which the kernel is asked to start writing, so that a sync
// on a slow disk finds its work under way. On a fast one it changes nothing.
constexpr int64_t kWritebackBytes = int64_t{4} << 20;

// Blocks are reserved this far ahead of the writes: long runs on the disk,
// little work for the sync. Not the whole upload at once, because the space
// ledger already promised it and would count it twice.
constexpr int64_t kAllocateBytes = int64_t{64} << 20;

// A sync costs a trip to the disk and an acknowledgement, so records gather
// for it; far below the senders' window, so that none of them waits.
constexpr int64_t kBatchBytes = int64_t{4} << 20;
constexpr absl::Duration kBatchDelay = absl::Milliseconds(10);

}  // namespace

// --- SpoolWriter::State ------------------------------------------------------

void SpoolWriter::State::Start(uint64_t records, int64_t offset) {
  end = offset;
  hinted = offset;
  allocated = offset;
  MutexLock lock(&mu);
  appended = durable = told = records;
  appended_end = durable_end = offset;
}

absl::Status SpoolWriter::State::Reserve(int64_t next) {
  if (next <= allocated) return absl::OkStatus();
  const int64_t ahead =
      std::max(next, std::min(next + kAllocateBytes, SpoolFileBytes(header)));
  allocated = ahead;
  const absl::Status status = file->Allocate(ahead);
  if (!absl::IsResourceExhausted(status)) return status;
  // Not enough for the run, maybe enough for this record.
  allocated = next;
  return file->Allocate(next);
}

absl::Status SpoolWriter::State::WriteRecord(uint64_t index,
                                             std::span<const std::byte> body,
                                             uint32_t vector) {
  const auto head =
      EncodeRecordHead({static_cast<uint32_t>(body.size()), vector, index});
  const int64_t next = end + static_cast<int64_t>(head.size() + body.size());
  absl::Status status = Reserve(next);
  if (status.ok()) status = file->WriteAt(end, head);
  if (status.ok()) {
    status = file->WriteAt(end + static_cast<int64_t>(head.size()), body);
  }
  if (status.ok()) return status;
  // Half a record may be there; without it the next try starts clean.
  const absl::Status cut = file->Truncate(end);
  allocated = end;
  if (!cut.ok()) {
    MutexLock lock(&mu);
    if (broken.ok()) broken = cut;
  }
  return status;
}

absl::Status SpoolWriter::State::Append(uint64_t index,
                                        std::span<const std::byte> body,
                                        uint32_t vector) {
  if (body.empty() || body.size() > header.max_record_bytes) {
    return absl::InvalidArgumentError(
        Cat("chunk ", index, " of ", body.size(), " bytes is not within 1..",
            header.max_record_bytes, ", the size this upload declared"));
  }
  if (vector >= header.vectors) {
    return absl::InvalidArgumentError(
        Cat("chunk ", index, ": vector ", vector, " of ", header.vectors));
  }
  {
    MutexLock lock(&mu);
    if (!broken.ok()) {
      return absl::FailedPreconditionError(
          Cat("spool ", path, " is broken (", StdView(broken.message()),
              "); reopen it to go on at its last durable chunk"));
    }
    if (index != appended || index >= header.total_chunks) {
      return absl::FailedPreconditionError(
          Cat("chunk ", index, " is out of order: chunk ", appended, " of ",
              header.total_chunks, " comes next"));
    }
  }
  absl::Status written = WriteRecord(index, body, vector);
  if (absl::IsResourceExhausted(written) && spares != nullptr &&
      spares->bytes() > 0) {
    CONSILIUM_RETURN_IF_ERROR(spares->Clear());
    written = WriteRecord(index, body, vector);
  }
  CONSILIUM_RETURN_IF_ERROR(written);
  end += static_cast<int64_t>(kSpoolRecordHead + body.size());
  if (end - hinted >= kWritebackBytes) {
    // Only a hint: its failure shows in the sync.
    (void)file->StartWriteback(hinted, end - hinted);
    hinted = end;
  }
  bool now = false;
  {
    MutexLock lock(&mu);
    ++appended;
    appended_end = end;
    if (syncer == nullptr || running || hurried) return absl::OkStatus();
    hurried = WorthSync();
    if (scheduled && !hurried) return absl::OkStatus();
    scheduled = true;
    now = hurried;
  }
  syncer->Schedule(shared_from_this(), now);
  return absl::OkStatus();
}

bool SpoolWriter::State::WorthSync() const {
  return flushers > 0 || appended == header.total_chunks ||
         appended_end - durable_end >= kBatchBytes;
}

bool SpoolWriter::State::SyncOnce() {
  uint64_t target = 0;
  int64_t target_end = 0;
  uint64_t before = 0;
  int64_t before_end = 0;
  {
    MutexLock lock(&mu);
    if (running) return false;
    hurried = false;
    if (closed || !broken.ok() || appended == durable) {
      scheduled = false;
      changed.SignalAll();
      return false;
    }
    running = true;
    target = appended;
    target_end = appended_end;
    before = durable;
    before_end = durable_end;
  }
  const absl::Duration begun = SystemClock()->Monotonic();
  const absl::Status synced = file->Sync();
  {
    MutexLock lock(&mu);
    if (synced.ok()) {
      durable = target;
      durable_end = target_end;
    } else {
      broken = synced;
    }
  }
  if (synced.ok()) {
    if (syncer != nullptr) {
      syncer->Count(static_cast<int64_t>(target - before),
                    target_end - before_end,
                    SystemClock()->Monotonic() - begun);
    }
    if (on_durable != nullptr) on_durable(target);
  } else {
    // Pages of a failed sync may read back well and yet never reach the disk,
    // so nothing behind the last good sync may be believed.
    (void)file->Truncate(before_end);
    if (on_durable != nullptr) on_durable(synced);
  }
  MutexLock lock(&mu);
  running = false;
  if (synced.ok()) told = target;
  const bool more = broken.ok() && !closed && appended > target;
  scheduled = more && syncer != nullptr;
  // In the same breath as `running`: Append leaves the queue to whoever set it.
  hurried = scheduled && WorthSync();
  changed.SignalAll();
  return more;
}

absl::Status SpoolWriter::State::Flush() {
  if (syncer == nullptr) {
    {
      MutexLock lock(&mu);
      if (!broken.ok()) return broken;
      if (told == appended) return absl::OkStatus();
    }
    while (SyncOnce()) {
    }
    MutexLock lock(&mu);
    return broken;
  }
  MutexLock lock(&mu);
  const uint64_t target = appended;
  ++flushers;
  if (scheduled && !running && !hurried && told < target) {
    hurried = true;
    syncer->Schedule(shared_from_this(), true);
  }
  while (told < target && broken.ok()) changed.Wait(&mu);
  while (!broken.ok() && running) changed.Wait(&mu);
  --flushers;
  return broken;
}

absl::Status SpoolWriter::State::Health() {
  MutexLock lock(&mu);
  while (!broken.ok() && running) changed.Wait(&mu);
  return broken;
}

void SpoolWriter::State::Close() {
  MutexLock lock(&mu);
  closed = true;
  while (running) changed.Wait(&mu);
  // A queued state is dropped by the thread that meets it; it never looks at
  // the file again.
  file.reset();
  use.End();
  on_durable = nullptr;
}

// --- SpoolSyncer -------------------------------------------------------------

SpoolSyncer::Impl::Impl(int threads, SyncedFn on_synced)
    : on_synced_(std::move(on_synced)) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Loop(); });
  }
}

SpoolSyncer::Impl::~Impl() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void SpoolSyncer::Impl::Schedule(std::shared_ptr<SpoolWriter::State> state,
                                 bool now) {
  const absl::Duration time = SystemClock()->Monotonic();
  MutexLock lock(&mu_);
  if (!now) {
    queue_.push_back({std::move(state), time + kBatchDelay});
  } else {
    std::erase_if(queue_, [&](const Waiting& w) { return w.state == state; });
    // Behind the others that are due, so that a busy spool starves none.
    auto place = queue_.begin();
    while (place != queue_.end() && place->due <= time) ++place;
    queue_.insert(place, {std::move(state), time});
  }
  changed_.Signal();
}

void SpoolSyncer::Impl::Count(int64_t records, int64_t bytes,
                              absl::Duration took) {
  {
    MutexLock lock(&mu_);
    ++stats_.syncs;
    stats_.records += records;
    stats_.bytes += bytes;
  }
  if (on_synced_ != nullptr) on_synced_(took, bytes);
}

SpoolSyncer::Stats SpoolSyncer::Impl::stats() const {
  MutexLock lock(&mu_);
  return stats_;
}

void SpoolSyncer::Impl::Loop() {
  while (true) {
    std::shared_ptr<SpoolWriter::State> state;
    {
      MutexLock lock(&mu_);
      // Delays are equal and those without one stand in front: the first is
      // due first.
      while (!stopping_) {
        if (queue_.empty()) {
          changed_.Wait(&mu_);
          continue;
        }
        const absl::Duration wait =
            queue_.front().due - SystemClock()->Monotonic();
        if (wait <= absl::ZeroDuration()) break;
        changed_.WaitFor(&mu_, wait);
      }
      if (queue_.empty()) return;
      state = std::move(queue_.front().state);
      queue_.pop_front();
    }
    if (state->SyncOnce()) {
      bool now = false;
      {
        MutexLock lock(&state->mu);
        now = state->hurried;
      }
      Schedule(std::move(state), now);
    }
  }
}

SpoolSyncer::SpoolSyncer(int threads, SyncedFn on_synced)
    : impl_(std::make_unique<Impl>(threads < 1 ? 1 : threads,
                                   std::move(on_synced))) {}
SpoolSyncer::~SpoolSyncer() = default;
SpoolSyncer::Stats SpoolSyncer::stats() const { return impl_->stats(); }

}  // namespace consilium
