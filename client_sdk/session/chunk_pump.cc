#include "client_sdk/session/chunk_pump.h"

#include <cstdlib>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/aead.h"

namespace consilium::client::internal {

struct ChunkPool::State {
  explicit State(size_t bytes) : buffer_bytes(bytes) {}
  ~State() {
    for (std::byte* buffer : free) std::free(buffer);
  }

  const size_t buffer_bytes;
  Mutex mutex;
  std::vector<std::byte*> free ABSL_GUARDED_BY(mutex);
  bool closed ABSL_GUARDED_BY(mutex) = false;
};

ChunkPool::ChunkPool(size_t buffer_bytes)
    : state_(std::make_shared<State>(buffer_bytes)) {}

ChunkPool::~ChunkPool() {
  MutexLock lock(&state_->mutex);
  state_->closed = true;
}

size_t ChunkPool::buffer_bytes() const { return state_->buffer_bytes; }

ChunkBytes ChunkPool::Get(size_t size) {
  CONSILIUM_CHECK(size <= state_->buffer_bytes);
  std::byte* buffer = nullptr;
  {
    MutexLock lock(&state_->mutex);
    if (!state_->free.empty()) {
      buffer = state_->free.back();
      state_->free.pop_back();
    }
  }
  if (buffer == nullptr) {
    constexpr size_t kPage = 4096;
    const size_t bytes = (state_->buffer_bytes + kPage - 1) / kPage * kPage;
    buffer = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes));
    CONSILIUM_CHECK(buffer != nullptr);
  }
  const auto give_back = [state = state_](std::byte* memory) {
    {
      MutexLock lock(&state->mutex);
      if (!state->closed) {
        state->free.push_back(memory);
        return;
      }
    }
    std::free(memory);
  };
  return {std::shared_ptr<std::byte>(buffer, give_back), size};
}

namespace {

// Read and waiting for the writer. One is enough to keep it busy; the second
// covers a writer that is faster for a moment.
constexpr size_t kReadAhead = 2;

class Pump {
 public:
  Pump(const OutboxEntry& entry, ChunkPool& pool, UploadStream& stream,
       const PumpOptions& options)
      : entry_(entry),
        pool_(pool),
        stream_(stream),
        options_(options),
        total_(entry.chunks()),
        acked_(options.first_chunk) {}

  absl::StatusOr<PumpOutcome> Run(const CancelToken& cancel, uint64_t* acked) {
    std::thread writer([this] { Write(); });
    std::thread reader([this] { Read(); });
    absl::Status status;
    {
      const CancelRegistration registration =
          cancel.OnCancel([this] { stream_.Cancel(); });
      status = ReadChunks();
      if (status.ok()) status = AwaitEnd();
      if (!status.ok()) stream_.Cancel();
      {
        MutexLock lock(&mutex_);
        no_more_ = true;
        wake_.SignalAll();
      }
      writer.join();
      reader.join();
    }
    MutexLock lock(&mutex_);
    *acked = acked_;
    Report(acked_);
    if (refused_.has_value()) return PumpOutcome(*std::move(refused_));
    if (acked_ == total_) return PumpOutcome(AllDurable{});
    if (cancel.cancelled()) return cancel.status();
    CONSILIUM_RETURN_IF_ERROR(status);
    CONSILIUM_RETURN_IF_ERROR(read_error_);
    CONSILIUM_RETURN_IF_ERROR(finish_);
    return absl::UnavailableError(
        Cat("the coordinator ended the upload stream after ", acked_, " of ",
            total_, " chunks"));
  }

 private:
  absl::Status ReadChunks() {
    for (uint64_t index = options_.first_chunk; index < total_; ++index) {
      bool ended = false;
      CONSILIUM_RETURN_IF_ERROR(AwaitRoom(index, &ended));
      if (ended) return absl::OkStatus();
      ChunkBytes chunk = pool_.Get(entry_.ChunkBytesOf(index));
      CONSILIUM_RETURN_IF_ERROR(entry_.ReadChunk(
          index, std::span<std::byte>(chunk.memory.get(), chunk.size)));
      MutexLock lock(&mutex_);
      loaded_.push_back({index, std::move(chunk)});
      wake_.SignalAll();
    }
    MutexLock lock(&mutex_);
    no_more_ = true;
    wake_.SignalAll();
    return absl::OkStatus();
  }

  // Until chunk `index` fits the window and the queue. The first chunk in
  // flight always fits, however small the window.
  absl::Status AwaitRoom(uint64_t index, bool* ended) {
    return Await([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      *ended = ended_ || write_failed_;
      const uint64_t in_flight =
          entry_.ChunkOffsetOf(index) - entry_.ChunkOffsetOf(acked_);
      return *ended ||
             (loaded_.size() < kReadAhead &&
              (in_flight == 0 || in_flight + entry_.ChunkBytesOf(index) <=
                                     options_.window_bytes));
    });
  }

  absl::Status AwaitEnd() {
    return Await([&]()
                     ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; });
  }

  // Watches for a stall meanwhile, and passes acknowledgements on.
  template <typename Ready>
  absl::Status Await(const Ready& ready) {
    for (;;) {
      uint64_t report = 0;
      {
        MutexLock lock(&mutex_);
        const uint64_t moved = moved_;
        bool timed_out = false;
        while (!ready() && acked_ == reported_ && !timed_out) {
          timed_out = wake_.WaitFor(&mutex_, options_.stall_timeout);
        }
        if (timed_out && moved == moved_) {
          return absl::DeadlineExceededError(
              Cat("nothing of the upload moved for ",
                  FormatDuration(options_.stall_timeout), " (stall_timeout)"));
        }
        if (ready()) return absl::OkStatus();
        report = acked_;
      }
      Report(report);
    }
  }

  void Report(uint64_t acked) {
    if (acked == reported_) return;
    reported_ = acked;
    if (options_.on_ack) options_.on_ack(acked);
  }

  void Write() {
    for (;;) {
      Loaded next;
      {
        MutexLock lock(&mutex_);
        while (loaded_.empty() && !no_more_ && !ended_) wake_.Wait(&mutex_);
        if (loaded_.empty() || ended_) break;
        next = std::move(loaded_.front());
        loaded_.pop_front();
        wake_.SignalAll();
      }
      const uint64_t index = next.index;
      const bool ok = stream_.Write(index, std::move(next.chunk));
      MutexLock lock(&mutex_);
      ++moved_;
      if (!ok) {
        write_failed_ = true;
        wake_.SignalAll();
        return;
      }
    }
    stream_.Done();
  }

  void Read() {
    absl::Status error;
    for (;;) {
      absl::StatusOr<std::optional<UploadReply>> reply = stream_.Read();
      if (!reply.ok()) {
        error = reply.status();
        break;
      }
      if (!reply->has_value()) break;
      MutexLock lock(&mutex_);
      ++moved_;
      if (auto* refused = std::get_if<Refused>(&**reply)) {
        refused_ = std::move(*refused);
        wake_.SignalAll();
        continue;
      }
      const uint64_t next = std::get<uint64_t>(**reply);
      if (next < acked_) continue;  // acknowledgements are cumulative
      if (next > total_) {
        error = absl::InternalError(Cat("the coordinator acknowledged ", next,
                                        " of ", total_, " chunks"));
        break;
      }
      acked_ = next;
      wake_.SignalAll();
    }
    if (!error.ok()) stream_.Cancel();
    absl::Status finish = stream_.Finish();
    MutexLock lock(&mutex_);
    read_error_ = std::move(error);
    finish_ = std::move(finish);
    ended_ = true;
    wake_.SignalAll();
  }

  struct Loaded {
    uint64_t index = 0;
    ChunkBytes chunk;
  };

  const OutboxEntry& entry_;
  ChunkPool& pool_;
  UploadStream& stream_;
  const PumpOptions& options_;
  const uint64_t total_;

  Mutex mutex_;
  CondVar wake_;
  std::deque<Loaded> loaded_ ABSL_GUARDED_BY(mutex_);
  uint64_t acked_ ABSL_GUARDED_BY(mutex_);
  uint64_t moved_ ABSL_GUARDED_BY(mutex_) = 0;  // writes and replies
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Refused> refused_ ABSL_GUARDED_BY(mutex_);
  absl::Status read_error_ ABSL_GUARDED_BY(mutex_);
  absl::Status finish_ ABSL_GUARDED_BY(mutex_);
  uint64_t reported_ = 0;  // calling thread only
};

}  // namespace

absl::StatusOr<PumpOutcome> PumpChunks(const OutboxEntry& entry,
                                       ChunkPool& pool, UploadStream& stream,
                                       const PumpOptions& options,
                                       const CancelToken& cancel,
                                       uint64_t* acked) {
  CONSILIUM_CHECK(options.first_chunk <= entry.chunks());
  return Pump(entry, pool, stream, options).Run(cancel, acked);
}

}  // namespace consilium::client::internal
