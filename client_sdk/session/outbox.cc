#include "client_sdk/session/outbox.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "client_sdk/session/outbox_meta.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/sync_name.h"
#include "consilium/secure/key_file.h"
#include "consilium/secure/sha256.h"

namespace consilium::client::internal {
namespace {

constexpr SecretAccess kToDisk("the outbox keeps the content key on disk");

std::string MetaPath(std::string_view directory) {
  return JoinPath(directory, "meta");
}
std::string PayloadPath(std::string_view directory) {
  return JoinPath(directory, "payload");
}

// <round>-<attempt>-<sequence>: a later upload of a round has a higher one.
struct EntryName {
  RoundRef round;
  uint64_t sequence = 0;
  friend auto operator<=>(const EntryName&, const EntryName&) = default;

  std::string ToString() const {
    return Cat(round.round, "-", round.attempt, "-", sequence);
  }
  static std::optional<EntryName> Parse(std::string_view text) {
    const std::vector<std::string> parts = absl::StrSplit(AbslView(text), '-');
    EntryName name;
    if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &name.round.round) ||
        !absl::SimpleAtoi(parts[1], &name.round.attempt) ||
        !absl::SimpleAtoi(parts[2], &name.sequence) ||
        name.ToString() != text) {
      return std::nullopt;
    }
    return name;
  }
};

absl::StatusOr<std::vector<EntryName>> ListEntries(
    FileSystem* fs, const std::string& directory) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs->List(directory));
  std::vector<EntryName> entries;
  for (const std::string& text : names) {
    if (auto name = EntryName::Parse(text)) entries.push_back(*name);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

absl::StatusOr<OutboxRecord> ReadRecord(FileSystem* fs,
                                        const std::string& directory) {
  const std::string path = MetaPath(directory);
  CONSILIUM_RETURN_IF_ERROR(CheckKeyFileMode(fs, path));
  CONSILIUM_ASSIGN_OR_RETURN(std::string bytes,
                             ReadWholeFile(fs, path, kMaxOutboxMetaBytes));
  const SecretBytes meta = SecretBytes::Take(std::move(bytes));
  auto record = DecodeOutboxMeta(meta.Bytes(kToDisk));
  if (!record.ok()) return Annotate(record.status(), path);
  return record;
}

// Digest of all frames, each opened where it is sealed.
absl::StatusOr<Sha256Digest> HashFrames(const OutboxEntry& entry) {
  const OutboxRecord& record = entry.record();
  std::optional<ChunkOpener> opener;
  if (record.content_key.has_value()) {
    CONSILIUM_ASSIGN_OR_RETURN(
        opener, ChunkOpener::Create(*record.content_key, record.seal_context(),
                                    entry.chunks()));
  }
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  std::vector<std::byte> buffer;
  for (size_t i = 0; i < entry.chunks(); ++i) {
    buffer.resize(std::max(buffer.size(), entry.ChunkBytesOf(i)));
    const std::span<std::byte> chunk =
        std::span(buffer).first(entry.ChunkBytesOf(i));
    CONSILIUM_RETURN_IF_ERROR(entry.ReadChunk(i, chunk));
    const std::span<std::byte> frame = chunk.first(record.frame_bytes[i]);
    if (opener.has_value()) {
      CONSILIUM_RETURN_IF_ERROR(opener->Open(i, chunk, frame));
    }
    hasher->Update(frame);
  }
  return hasher->Finish();
}

}  // namespace

SealContext OutboxRecord::seal_context() const {
  return {.federation = federation,
          .round = manifest.round.round,
          .attempt = manifest.round.attempt,
          .institution = institution,
          .upload_id = manifest.upload_id};
}

OutboxEntry::OutboxEntry(std::string directory, OutboxRecord record,
                         std::shared_ptr<File> payload)
    : directory_(std::move(directory)),
      record_(std::move(record)),
      payload_(std::move(payload)),
      tag_bytes_(record_.content_key.has_value() ? kAeadTagBytes : 0) {
  offsets_.reserve(record_.frame_bytes.size() + 1);
  uint64_t offset = 0;
  for (const uint32_t bytes : record_.frame_bytes) {
    offsets_.push_back(offset);
    offset += bytes;
  }
  offsets_.push_back(offset);
}

absl::Status OutboxEntry::ReadChunk(size_t index,
                                    std::span<std::byte> out) const {
  CONSILIUM_CHECK(index < chunks() && out.size() == ChunkBytesOf(index));
  return ReadExactlyAt(
      payload_.get(),
      static_cast<int64_t>(offsets_[index] + index * tag_bytes_), out);
}

absl::StatusOr<std::unique_ptr<Outbox>> Outbox::Create(Options options,
                                                       const SessionDeps& deps,
                                                       EventSink* events) {
  CONSILIUM_RETURN_IF_ERROR(deps.fs->MakeDirs(options.directory));
  CONSILIUM_RETURN_IF_ERROR(SyncName(deps.fs, options.directory));
  return std::unique_ptr<Outbox>(new Outbox(std::move(options), deps, events));
}

absl::StatusOr<std::vector<Outbox::Found>> Outbox::Load() {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<EntryName> names,
                             ListEntries(deps_.fs, options_.directory));
  std::vector<Found> found;
  for (size_t i = 0; i < names.size(); ++i) {
    const EntryName& name = names[i];
    const std::string directory = JoinPath(options_.directory, name.ToString());
    // Without a record it was never complete. An older upload of the same
    // round was replaced just before the process ended.
    bool replaced = false;
    for (size_t j = i + 1;
         j < names.size() && names[j].round == name.round && !replaced; ++j) {
      replaced = deps_.fs->Exists(
          MetaPath(JoinPath(options_.directory, names[j].ToString())));
    }
    if (replaced || !deps_.fs->Exists(MetaPath(directory))) {
      CONSILIUM_RETURN_IF_ERROR(WipeDirectory(directory));
      continue;
    }
    auto entry = LoadEntry(directory);
    if (!entry.ok()) {
      if (entry.status().code() != absl::StatusCode::kDataLoss) {
        return entry.status();
      }
      CONSILIUM_RETURN_IF_ERROR(WipeDirectory(directory));
    } else if (options_.sync) {
      // The process that wrote it may have ended before it was synced.
      ScheduleSync(*entry);
    }
    found.push_back({name.round, std::move(entry)});
  }
  return found;
}

absl::StatusOr<std::shared_ptr<OutboxEntry>> Outbox::Find(
    const RoundRef& round) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<EntryName> names,
                             ListEntries(deps_.fs, options_.directory));
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    const std::string directory = JoinPath(options_.directory, it->ToString());
    if (it->round != round || !deps_.fs->Exists(MetaPath(directory))) continue;
    auto entry = LoadEntry(directory);
    if (entry.ok() || entry.status().code() != absl::StatusCode::kDataLoss) {
      return entry;
    }
    CONSILIUM_RETURN_IF_ERROR(WipeDirectory(directory));
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<OutboxEntry>> Outbox::LoadEntry(
    const std::string& directory) {
  auto record = ReadRecord(deps_.fs, directory);
  if (!record.ok()) return record.status();
  const std::string payload_path = PayloadPath(directory);
  if (!deps_.fs->Exists(payload_path)) {
    return absl::DataLossError(Cat(payload_path, " is missing"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::shared_ptr<File> payload,
                             deps_.fs->Open(payload_path, {}));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, payload->Size());
  auto entry = std::make_shared<OutboxEntry>(directory, *std::move(record),
                                             std::move(payload));
  if (size != static_cast<int64_t>(entry->file_bytes())) {
    return absl::DataLossError(Cat(payload_path, " has ", size,
                                   " bytes; the record says ",
                                   entry->file_bytes()));
  }
  const auto digest = HashFrames(*entry);
  if (!digest.ok()) return Annotate(digest.status(), payload_path);
  const Sha256Digest& recorded = entry->manifest().payload_digest;
  if (*digest != recorded) {
    return absl::DataLossError(Cat(payload_path, " has digest ", digest->Hex(),
                                   "; the record says ", recorded.Hex()));
  }
  return entry;
}

absl::Status Outbox::CheckSpace(uint64_t bytes) {
  const auto free_bytes = [this]() -> absl::StatusOr<uint64_t> {
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t free,
                               deps_.fs->FreeSpace(options_.directory));
    return static_cast<uint64_t>(std::max<int64_t>(free, 0));
  };
  CONSILIUM_ASSIGN_OR_RETURN(uint64_t free, free_bytes());
  if (free < bytes && options_.spares != nullptr) {
    CONSILIUM_RETURN_IF_ERROR(options_.spares->Clear());
    CONSILIUM_ASSIGN_OR_RETURN(free, free_bytes());
  }
  if (free >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Cat("the outbox needs ", FormatBytes(bytes), " in ", options_.directory,
          ", where ", FormatBytes(free),
          " are free; make room or set state_dir to a larger disk"));
}

absl::StatusOr<OutboxDraft> Outbox::Begin(const RoundRef& round,
                                          uint64_t frame_bytes, uint64_t chunks,
                                          bool sealed) {
  const uint64_t bytes = frame_bytes + (sealed ? chunks * kAeadTagBytes : 0);
  CONSILIUM_RETURN_IF_ERROR(CheckSpace(bytes));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<EntryName> names,
                             ListEntries(deps_.fs, options_.directory));
  EntryName name{round, 0};
  for (const EntryName& other : names) {
    if (other.round == round) name.sequence = other.sequence + 1;
  }
  OutboxDraft draft;
  std::array<std::byte, kUploadIdBytes> id;
  deps_.random->Fill(id);
  draft.upload_id_ = std::string(AsChars(id));
  draft.directory_ = JoinPath(options_.directory, name.ToString());
  // A plain directory entry: what makes it last is the sync that comes later.
  CONSILIUM_RETURN_IF_ERROR(deps_.fs->MakeDirs(draft.directory_));
  draft.fs_ = deps_.fs;
  const std::string path = PayloadPath(draft.directory_);
  // A spare that an update without sealing does not fill would keep its end.
  if (sealed && options_.spares != nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(
        draft.payload_,
        options_.spares->Take(path, static_cast<int64_t>(bytes)));
  }
  if (draft.payload_ == nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(
        draft.payload_,
        deps_.fs->Open(path,
                       {.write = true, .create = true, .truncate = true}));
  }
  return draft;
}

absl::StatusOr<std::shared_ptr<OutboxEntry>> Outbox::Commit(
    OutboxDraft draft, OutboxRecord record) {
  const std::string meta_path = MetaPath(draft.directory_);
  const std::string temporary = meta_path + ".tmp";
  {
    const SecretBytes meta = EncodeOutboxMeta(record);
    CONSILIUM_ASSIGN_OR_RETURN(
        std::unique_ptr<File> file,
        deps_.fs->Open(temporary,
                       {.write = true, .create = true, .truncate = true}));
    CONSILIUM_RETURN_IF_ERROR(file->WriteAt(0, meta.Bytes(kToDisk)));
    CONSILIUM_RETURN_IF_ERROR(file->Close());
  }
  const std::shared_ptr<File> payload = draft.payload_;
  auto entry = std::make_shared<OutboxEntry>(
      draft.directory_, std::move(record), std::move(draft.payload_));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, payload->Size());
  const auto file_bytes = static_cast<int64_t>(entry->file_bytes());
  if (size > file_bytes) {
    CONSILIUM_RETURN_IF_ERROR(payload->Truncate(file_bytes));
  }
  CONSILIUM_RETURN_IF_ERROR(deps_.fs->Rename(temporary, meta_path));
  draft.fs_ = nullptr;  // it stays

  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<EntryName> names,
                             ListEntries(deps_.fs, options_.directory));
  for (const EntryName& name : names) {
    const std::string other = JoinPath(options_.directory, name.ToString());
    if (name.round == entry->manifest().round && other != entry->directory()) {
      CONSILIUM_RETURN_IF_ERROR(WipeDirectory(other));
    }
  }
  if (options_.sync) ScheduleSync(entry);
  return entry;
}

OutboxDraft::~OutboxDraft() {
  // What cannot be removed now is cleared by the next Load().
  if (fs_ != nullptr) fs_->RemoveTree(directory_).IgnoreError();
}

OutboxDraft::OutboxDraft(OutboxDraft&& other) noexcept
    : fs_(std::exchange(other.fs_, nullptr)),
      upload_id_(std::move(other.upload_id_)),
      directory_(std::move(other.directory_)),
      payload_(std::move(other.payload_)) {}

OutboxDraft& OutboxDraft::operator=(OutboxDraft&& other) noexcept {
  std::swap(fs_, other.fs_);
  std::swap(upload_id_, other.upload_id_);
  std::swap(directory_, other.directory_);
  std::swap(payload_, other.payload_);
  return *this;
}

absl::Status Outbox::Wipe(const OutboxEntry& entry) {
  return WipeDirectory(entry.directory());
}

absl::Status Outbox::RemovePayload(const std::string& directory) {
  const std::string path = PayloadPath(directory);
  if (!deps_.fs->Exists(path)) return absl::OkStatus();
  if (options_.spares != nullptr) {
    const auto record = ReadRecord(deps_.fs, directory);
    if (record.ok() && record->content_key.has_value()) {
      return options_.spares->Retire(path);
    }
  }
  return deps_.fs->Remove(path);
}

absl::Status Outbox::WipeDirectory(const std::string& directory) {
  // Payload first: a key without its payload opens nothing any more.
  CONSILIUM_RETURN_IF_ERROR(RemovePayload(directory));
  const std::string meta_path = MetaPath(directory);
  if (deps_.fs->Exists(meta_path)) {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> meta,
                               deps_.fs->Open(meta_path, {.write = true}));
    constexpr std::array<std::byte, kOutboxKeyBytes> kZeros{};
    CONSILIUM_RETURN_IF_ERROR(meta->WriteAt(kOutboxKeyOffset, kZeros));
    if (options_.sync) CONSILIUM_RETURN_IF_ERROR(meta->Sync());
  }
  return deps_.fs->RemoveTree(directory);
}

void Outbox::ScheduleSync(const std::shared_ptr<OutboxEntry>& entry) {
  // Of an upload that ends before the delay is over only the wiped key is
  // synced.
  deps_.later->RunAfter(
      options_.sync_delay,
      [weak = std::weak_ptr<OutboxEntry>(entry), fs = deps_.fs,
       events = events_, parent = options_.directory] {
        const std::shared_ptr<OutboxEntry> entry = weak.lock();
        if (entry == nullptr) return;
        const auto sync = [&]() -> absl::Status {
          for (const std::string& path : {PayloadPath(entry->directory()),
                                          MetaPath(entry->directory())}) {
            CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                                       fs->Open(path, {.write = true}));
            CONSILIUM_RETURN_IF_ERROR(file->Sync());
          }
          CONSILIUM_RETURN_IF_ERROR(fs->SyncDir(entry->directory()));
          return fs->SyncDir(parent);
        };
        const absl::Status status = sync();
        // NOT_FOUND: the receipt came meanwhile and the entry is wiped.
        if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
          events->Warning(entry->manifest().round.round,
                          Cat("the outbox is not safe from a loss of power: ",
                              StdView(status.message())));
        }
      });
}

absl::StatusOr<std::vector<OutboxSummary>> SummarizeOutbox(
    FileSystem* fs, const std::string& directory) {
  std::vector<OutboxSummary> summary;
  if (!fs->Exists(directory)) return summary;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<EntryName> names,
                             ListEntries(fs, directory));
  for (const EntryName& name : names) {
    const auto record = ReadRecord(fs, JoinPath(directory, name.ToString()));
    // One that is being written, or wiped, at this moment.
    if (!record.ok()) continue;
    summary.push_back({name.round, record->manifest.payload_bytes});
  }
  return summary;
}

}  // namespace consilium::client::internal
