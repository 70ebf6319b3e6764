#include "coordinator/store/spool.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/spool_format.h"
#include "coordinator/store/spool_syncer.h"

namespace consilium {
namespace {

constexpr std::string_view kSpoolFolder = "spool";
constexpr std::string_view kSuffix = ".spool";

// Names become parts of a path, so they may hold nothing else.
bool IsPathPart(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") ==
             std::string_view::npos;
}

}  // namespace

// --- SpoolWriter -------------------------------------------------------------

SpoolWriter::SpoolWriter(std::shared_ptr<State> state)
    : state_(std::move(state)) {}
SpoolWriter::~SpoolWriter() { state_->Close(); }

absl::Status SpoolWriter::Append(uint64_t index,
                                 std::span<const std::byte> body,
                                 uint32_t vector) {
  return state_->Append(index, body, vector);
}
absl::Status SpoolWriter::Flush() { return state_->Flush(); }
absl::Status SpoolWriter::health() const { return state_->Health(); }

uint64_t SpoolWriter::next_index() const {
  MutexLock lock(&state_->mu);
  return state_->appended;
}
int64_t SpoolWriter::held_bytes() const { return state_->held; }
uint64_t SpoolWriter::durable_records() const {
  MutexLock lock(&state_->mu);
  return state_->durable;
}
bool SpoolWriter::complete() const {
  return next_index() == state_->header.total_chunks;
}
const SpoolHeader& SpoolWriter::header() const { return state_->header; }
const std::string& SpoolWriter::path() const { return state_->path; }

// --- SpoolReader -------------------------------------------------------------

absl::StatusOr<std::unique_ptr<SpoolReader>> SpoolReader::Open(
    FileSystem* fs, const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs->Open(path, {}));
  CONSILIUM_ASSIGN_OR_RETURN(DecodedSpoolHeader decoded,
                             ReadSpoolHeader(file.get()));
  std::unique_ptr<SpoolReader> reader(
      new SpoolReader(std::move(file), path, std::move(decoded.header)));
  CONSILIUM_RETURN_IF_ERROR(reader->Scan(decoded.bytes));
  return reader;
}

absl::Status SpoolReader::Scan(int64_t first_offset) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, file_->Size());
  end_ = first_offset;
  while (true) {
    SpoolRecordHead head;
    CONSILIUM_ASSIGN_OR_RETURN(
        const bool good,
        ReadRecordHead(file_.get(), end_, size, records_, header_, &head));
    if (!good) return absl::OkStatus();
    const auto bytes = static_cast<int64_t>(kSpoolRecordHead + head.length);
    if (runs_.empty() || runs_.back().bytes != bytes) {
      runs_.push_back({records_, end_, bytes});
    }
    ++records_;
    if (header_.vectors > 1) vectors_.push_back(head.vector);
    end_ += bytes;
  }
}

const SpoolReader::Run& SpoolReader::RunOf(uint64_t index) const {
  const auto after = std::upper_bound(
      runs_.begin(), runs_.end(), index,
      [](uint64_t i, const Run& run) { return i < run.first; });
  return *std::prev(after);
}

int64_t SpoolReader::BodyOf(uint64_t index) const {
  const Run& run = RunOf(index);
  return run.offset + static_cast<int64_t>(index - run.first) * run.bytes +
         static_cast<int64_t>(kSpoolRecordHead);
}

size_t SpoolReader::record_bytes(uint64_t index) const {
  if (index >= records()) return 0;
  return static_cast<size_t>(RunOf(index).bytes) - kSpoolRecordHead;
}

absl::StatusOr<SpoolReader::Record> SpoolReader::ReadRecord(
    uint64_t index, std::span<std::byte> buffer) const {
  if (index >= records()) {
    return absl::OutOfRangeError(
        Cat("spool ", path_, ": no record ", index, ", it holds ", records()));
  }
  const size_t bytes = record_bytes(index);
  if (buffer.size() < bytes) {
    return absl::InvalidArgumentError(Cat("spool ", path_, ": record ", index,
                                          " has ", bytes, " bytes, the buffer ",
                                          buffer.size()));
  }
  CONSILIUM_RETURN_IF_ERROR(
      ReadExactlyAt(file_.get(), BodyOf(index), buffer.first(bytes)));
  return Record{vectors_.empty() ? 0 : vectors_[index], bytes};
}

absl::Status SpoolReader::ReadPart(uint64_t index, size_t offset,
                                   std::span<std::byte> out) const {
  const size_t bytes = record_bytes(index);
  if (index >= records() || offset > bytes || out.size() > bytes - offset) {
    return absl::OutOfRangeError(Cat("spool ", path_, ": record ", index,
                                     " has ", bytes, " bytes, not ", offset,
                                     " + ", out.size()));
  }
  return ReadExactlyAt(file_.get(),
                       BodyOf(index) + static_cast<int64_t>(offset), out);
}

// --- SpoolResumer ------------------------------------------------------------

struct SpoolResumer::State {
  std::string path;
  FileUse use;
  std::unique_ptr<File> file;
  SpoolHeader header;
  int64_t size = 0;
  int64_t end = 0;  // after the last record that was read
  uint64_t records = 0;
  SpoolSyncer::Impl* syncer = nullptr;
  SpareFiles* spares = nullptr;
};

SpoolResumer::SpoolResumer(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
SpoolResumer::~SpoolResumer() = default;

absl::StatusOr<bool> SpoolResumer::Read(RecordCheck check, int64_t max_bytes) {
  State& s = *state_;
  std::vector<std::byte> buffer(s.header.max_record_bytes);
  const int64_t from = s.end;
  do {
    SpoolRecordHead head;
    CONSILIUM_ASSIGN_OR_RETURN(
        const bool good, ReadRecordHead(s.file.get(), s.end, s.size, s.records,
                                        s.header, &head));
    if (!good) return true;
    const std::span<std::byte> body = std::span(buffer).first(head.length);
    CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
        s.file.get(), s.end + static_cast<int64_t>(kSpoolRecordHead), body));
    if (!check(s.records, head.vector, body).ok()) return true;
    s.end += static_cast<int64_t>(kSpoolRecordHead + head.length);
    ++s.records;
  } while (s.end - from < max_bytes);
  return false;
}

absl::StatusOr<std::unique_ptr<SpoolWriter>> SpoolResumer::Finish(
    DurableFn on_durable) {
  State& s = *state_;
  // Cut first, then sync: what is left has been read and is durable after it.
  if (s.end < s.size) CONSILIUM_RETURN_IF_ERROR(s.file->Truncate(s.end));
  CONSILIUM_RETURN_IF_ERROR(s.file->Sync());
  auto state = std::make_shared<SpoolWriter::State>();
  state->path = std::move(s.path);
  state->use = std::move(s.use);
  state->header = std::move(s.header);
  state->file = std::move(s.file);
  state->syncer = s.syncer;
  state->spares = s.spares;
  state->on_durable = std::move(on_durable);
  state->Start(s.records, s.end);
  return std::unique_ptr<SpoolWriter>(new SpoolWriter(std::move(state)));
}

// --- SpoolDir ----------------------------------------------------------------

SpoolDir::SpoolDir(FileSystem* fs, std::string root, SpoolSyncer* syncer,
                   SpareFiles* spares)
    : fs_(fs),
      root_(std::move(root)),
      syncer_(syncer == nullptr ? nullptr : syncer->impl_.get()),
      spares_(spares) {}

absl::Status SpoolDir::Prepare() {
  return fs_->MakeDirs(JoinPath(root_, kSpoolFolder));
}

absl::StatusOr<int64_t> SpoolDir::FileBytes(const SpoolHeader& header) {
  CONSILIUM_RETURN_IF_ERROR(CheckSpoolHeader(header));
  return SpoolFileBytes(header);
}

std::string SpoolDir::FolderOf(int64_t round, int64_t attempt) {
  return Cat(kSpoolFolder, "/", round, "-", attempt);
}

std::string SpoolDir::PathOf(const SpoolKey& key) {
  return Cat(FolderOf(key.round, key.attempt), "/", key.institution, "-",
             key.upload_id, kSuffix);
}

absl::StatusOr<std::unique_ptr<File>> SpoolDir::MakeFile(
    const std::string& full, const SpoolHeader& header) {
  MutexLock lock(&mu_);
  CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(DirName(full)));
  // Only records that authenticate themselves may stand on old bytes.
  if (spares_ != nullptr && header.sealed && !fs_->Exists(full)) {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                               spares_->Take(full, SpoolFileBytes(header)));
    if (file != nullptr) return file;
  }
  return fs_->Open(full, {.write = true, .create = true, .exclusive = true});
}

absl::StatusOr<std::unique_ptr<SpoolWriter>> SpoolDir::Create(
    const SpoolKey& key, SpoolHeader header, DurableFn on_durable) {
  if (key.round < 1 || key.attempt < 1 || !IsPathPart(key.institution) ||
      !IsPathPart(key.upload_id)) {
    return absl::InvalidArgumentError(
        Cat("spool key round ", key.round, " attempt ", key.attempt,
            " institution ", Quoted(key.institution), " upload ",
            Quoted(key.upload_id), " cannot name a file"));
  }
  CONSILIUM_RETURN_IF_ERROR(CheckSpoolHeader(header));
  const std::string path = PathOf(key);
  const std::string full = JoinPath(root_, path);
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                             MakeFile(full, header));
  const std::vector<std::byte> bytes = EncodeSpoolHeader(header);
  absl::Status status = file->WriteAt(0, bytes);
  if (status.ok()) status = file->Sync();
  if (status.ok()) status = fs_->SyncDir(DirName(full));
  int64_t held = 0;
  if (status.ok()) {
    const absl::StatusOr<int64_t> size = file->Size();
    status = size.status();
    if (size.ok()) held = *size - static_cast<int64_t>(bytes.size());
  }
  if (!status.ok()) {
    file.reset();
    (void)fs_->Remove(full);
    return status;
  }
  auto state = std::make_shared<SpoolWriter::State>();
  state->path = path;
  state->use = Use(JoinPath(root_, path));
  state->header = std::move(header);
  state->file = std::move(file);
  state->syncer = syncer_;
  state->spares = spares_;
  state->on_durable = std::move(on_durable);
  state->held = held;
  state->Start(0, static_cast<int64_t>(bytes.size()));
  return std::unique_ptr<SpoolWriter>(new SpoolWriter(std::move(state)));
}

absl::StatusOr<std::unique_ptr<SpoolResumer>> SpoolDir::OpenToResume(
    const std::string& path) {
  auto state = std::make_unique<SpoolResumer::State>();
  state->path = path;
  state->use = Use(JoinPath(root_, path));
  CONSILIUM_ASSIGN_OR_RETURN(state->file,
                             fs_->Open(JoinPath(root_, path), {.write = true}));
  CONSILIUM_ASSIGN_OR_RETURN(DecodedSpoolHeader decoded,
                             ReadSpoolHeader(state->file.get()));
  state->header = std::move(decoded.header);
  CONSILIUM_ASSIGN_OR_RETURN(state->size, state->file->Size());
  state->end = decoded.bytes;
  state->syncer = syncer_;
  state->spares = spares_;
  return std::unique_ptr<SpoolResumer>(new SpoolResumer(std::move(state)));
}

absl::StatusOr<std::unique_ptr<SpoolReader>> SpoolDir::OpenReader(
    const std::string& path) const {
  const std::string full = JoinPath(root_, path);
  FileUse use = Use(full);
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<SpoolReader> reader,
                             SpoolReader::Open(fs_, full));
  reader->use_ = std::move(use);
  return reader;
}

FileUse SpoolDir::Use(const std::string& full) const {
  return spares_ == nullptr ? FileUse() : spares_->Use(full);
}

bool SpoolDir::IsSealed(const std::string& full) const {
  const auto file = fs_->Open(full, {});
  if (!file.ok()) return false;
  const auto decoded = ReadSpoolHeader(file->get());
  return decoded.ok() && decoded->header.sealed;
}

absl::Status SpoolDir::Remove(const std::string& path) {
  const std::string full = JoinPath(root_, path);
  if (spares_ != nullptr && IsSealed(full)) {
    return spares_->Retire(full);
  }
  const absl::Status status = fs_->Remove(full);
  if (absl::IsNotFound(status)) return absl::OkStatus();
  CONSILIUM_RETURN_IF_ERROR(status);
  return fs_->SyncDir(DirName(full));
}

absl::Status SpoolDir::RemoveEmptyFolders() {
  // Not between an upload's folder and its file.
  MutexLock lock(&mu_);
  const std::string spool = JoinPath(root_, kSpoolFolder);
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> folders,
                             fs_->List(spool));
  bool removed = false;
  for (const std::string& folder : folders) {
    const std::string path = JoinPath(spool, folder);
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                               fs_->List(path));
    if (names.empty()) removed |= fs_->Remove(path).ok();
  }
  return removed ? fs_->SyncDir(spool) : absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SpoolDir::List() const {
  std::vector<std::string> out;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> folders,
                             fs_->List(JoinPath(root_, kSpoolFolder)));
  for (const std::string& folder : folders) {
    const std::string relative = Cat(kSpoolFolder, "/", folder);
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                               fs_->List(JoinPath(root_, relative)));
    for (const std::string& name : names) {
      out.push_back(Cat(relative, "/", name));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace consilium
