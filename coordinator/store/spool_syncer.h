#ifndef CONSILIUM_COORDINATOR_STORE_SPOOL_SYNCER_H_
#define CONSILIUM_COORDINATOR_STORE_SPOOL_SYNCER_H_

// State that a SpoolWriter shares with the syncer. Private to the store.
//
//   appender thread:  Append -> pwrite -> Appended -> (queue, if not in it)
//   syncer thread:    take from queue -> fdatasync -> DurableFn -> queue again
//                     if records came meanwhile
//
// A state waits in the queue until it is worth a sync: kBatchBytes have come,
// or the last record, or somebody flushes, or kBatchDelay is over.
//
// One thread at a time syncs a state and calls its callback; one that meets
// another there leaves it the work.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "coordinator/store/spool.h"

namespace consilium {

struct SpoolWriter::State : std::enable_shared_from_this<SpoolWriter::State> {
  std::string path;  // relative to the data directory
  SpoolHeader header;
  FileUse use;                 // ended by Close
  std::unique_ptr<File> file;  // reset by Close, when no thread is inside
  SpoolSyncer::Impl* syncer = nullptr;
  SpareFiles* spares = nullptr;  // given up when the disk is full
  DurableFn on_durable;          // called by whoever holds `running`
  int64_t held = 0;              // see SpoolWriter::held_bytes()

  // Appender thread only.
  int64_t end = 0;        // offset of the next record
  int64_t hinted = 0;     // writeback was asked for up to here
  int64_t allocated = 0;  // disk blocks were reserved up to here

  Mutex mu;
  CondVar changed;
  uint64_t appended ABSL_GUARDED_BY(mu) = 0;
  int64_t appended_end ABSL_GUARDED_BY(mu) = 0;
  uint64_t durable ABSL_GUARDED_BY(mu) = 0;
  int64_t durable_end ABSL_GUARDED_BY(mu) = 0;
  uint64_t told ABSL_GUARDED_BY(mu) = 0;       // on_durable returned for these
  bool scheduled ABSL_GUARDED_BY(mu) = false;  // in the queue, or running
  bool running ABSL_GUARDED_BY(mu) = false;    // a thread syncs or calls back
  bool hurried ABSL_GUARDED_BY(mu) = false;    // in the queue, without delay
  int flushers ABSL_GUARDED_BY(mu) = 0;        // threads inside Flush
  bool closed ABSL_GUARDED_BY(mu) = false;
  absl::Status broken ABSL_GUARDED_BY(mu);

  // Begins behind `records` durable records that end at `offset`.
  void Start(uint64_t records, int64_t offset);
  // Errors: FAILED_PRECONDITION after a failed sync.
  absl::Status Append(uint64_t index, std::span<const std::byte> body,
                      uint32_t vector);
  absl::Status Flush();
  // `broken`, once nobody works on the file.
  absl::Status Health();
  // Makes all appended records durable and reports. True: more came meanwhile.
  bool SyncOnce();
  void Close();
  bool WorthSync() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

 private:
  // Disk blocks for a record that ends at `next`, and for some behind it.
  absl::Status Reserve(int64_t next);
  absl::Status WriteRecord(uint64_t index, std::span<const std::byte> body,
                           uint32_t vector);
};

class SpoolSyncer::Impl {
 public:
  Impl(int threads, SyncedFn on_synced);
  ~Impl();
  // `now`: sync as soon as a thread is free. Scheduling a state that waits in
  // the queue again, now, ends its wait.
  void Schedule(std::shared_ptr<SpoolWriter::State> state, bool now);
  void Count(int64_t records, int64_t bytes, absl::Duration took);
  Stats stats() const;

 private:
  void Loop();

  const SyncedFn on_synced_;
  mutable Mutex mu_;
  CondVar changed_;
  struct Waiting {
    std::shared_ptr<SpoolWriter::State> state;
    absl::Duration due;  // on the monotonic clock
  };
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Stats stats_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SPOOL_SYNCER_H_
