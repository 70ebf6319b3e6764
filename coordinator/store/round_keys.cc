#include "coordinator/store/round_keys.h"

#include <algorithm>
#include <charconv>

#include "consilium/base/bytes.h"
#include "consilium/base/digest.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

// FORMAT.md section 5.
constexpr std::string_view kMagic = "CRKY";
constexpr uint16_t kVersion = 1;
constexpr size_t kMaxWrappedBytes = 4096;
constexpr int64_t kMaxFileBytes = 8192;
constexpr std::string_view kSuffix = ".key";
constexpr std::string_view kTempSuffix = ".key.tmp";  // of WriteFileAtomic

std::string Encode(const RoundKeyRecord& key) {
  ByteWriter writer;
  writer.Text(kMagic);
  writer.U16(kVersion);
  writer.U16(0);
  writer.I64(key.round);
  writer.I64(key.attempt);
  writer.Bytes(key.public_key);
  writer.LengthPrefixed(key.wrapped_private_key);
  const Sha256Digest digest = Sha256(writer.bytes());
  writer.Bytes(digest.bytes);
  return writer.ToString();
}

absl::StatusOr<RoundKeyRecord> Decode(std::string_view bytes) {
  if (bytes.size() < Sha256Digest::kSize) {
    return absl::InvalidArgumentError("it is cut off");
  }
  const std::string_view body =
      bytes.substr(0, bytes.size() - Sha256Digest::kSize);
  const Sha256Digest digest = Sha256(body);
  if (AsChars(digest.bytes) != bytes.substr(body.size())) {
    return absl::InvalidArgumentError("its digest does not match");
  }
  ByteReader reader(AsBytes(body), "round key");
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view magic,
                             reader.Text(kMagic.size()));
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t version, reader.U16());
  if (magic != kMagic || version != kVersion) {
    return absl::InvalidArgumentError(Cat("it has format version ", version,
                                          ", this program knows ", kVersion));
  }
  CONSILIUM_RETURN_IF_ERROR(reader.Skip(2));
  RoundKeyRecord key;
  CONSILIUM_ASSIGN_OR_RETURN(key.round, reader.I64());
  CONSILIUM_ASSIGN_OR_RETURN(key.attempt, reader.I64());
  CONSILIUM_ASSIGN_OR_RETURN(const auto public_key,
                             reader.Bytes(key.public_key.size()));
  std::copy(public_key.begin(), public_key.end(), key.public_key.begin());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view wrapped,
                             reader.LengthPrefixedText(kMaxWrappedBytes));
  key.wrapped_private_key = wrapped;
  CONSILIUM_RETURN_IF_ERROR(reader.ExpectEnd());
  return key;
}

// "12-1.key" gives (12, 1).
bool ParseName(std::string_view name, std::pair<int64_t, int64_t>* out) {
  const char* end = name.data() + name.size();
  auto round = std::from_chars(name.data(), end, out->first);
  if (round.ec != std::errc() || round.ptr == end || *round.ptr != '-') {
    return false;
  }
  auto attempt = std::from_chars(round.ptr + 1, end, out->second);
  return attempt.ec == std::errc() &&
         std::string_view(attempt.ptr,
                          static_cast<size_t>(end - attempt.ptr)) == kSuffix;
}

}  // namespace

RoundKeyFiles::RoundKeyFiles(FileSystem* fs, std::string dir)
    : fs_(fs), dir_(std::move(dir)) {}

absl::Status RoundKeyFiles::Prepare() { return fs_->MakeDirs(dir_); }

std::string RoundKeyFiles::PathOf(int64_t round, int64_t attempt) const {
  return JoinPath(dir_, Cat(round, "-", attempt, kSuffix));
}

absl::Status RoundKeyFiles::Create(const RoundKeyRecord& key) {
  if (key.wrapped_private_key.empty() ||
      key.wrapped_private_key.size() > kMaxWrappedBytes) {
    return absl::InvalidArgumentError(
        Cat("a wrapped round key of ", key.wrapped_private_key.size(),
            " bytes is not within 1..", kMaxWrappedBytes));
  }
  const std::string path = PathOf(key.round, key.attempt);
  if (fs_->Exists(path)) {
    return absl::AlreadyExistsError(Cat("round ", key.round, " attempt ",
                                        key.attempt, " has a key, ", path));
  }
  const std::string bytes = Encode(key);
  return WriteFileAtomic(fs_, path, AsBytes(bytes), 0600);
}

absl::StatusOr<RoundKeyRecord> RoundKeyFiles::Load(int64_t round,
                                                   int64_t attempt) const {
  const std::string path = PathOf(round, attempt);
  const absl::StatusOr<FileInfo> info = fs_->Stat(path);
  if (absl::IsNotFound(info.status())) {
    return absl::NotFoundError(Cat(
        "round ", round, " attempt ", attempt, " has no key any more (", path,
        "): it was destroyed when its retention ended, or never made"));
  }
  CONSILIUM_RETURN_IF_ERROR(info.status());
  if ((info->mode & 077) != 0) {
    return absl::PermissionDeniedError(
        Cat(path, ": others can read this key; chmod 600 it"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::string bytes,
                             ReadWholeFile(fs_, path, kMaxFileBytes));
  absl::StatusOr<RoundKeyRecord> key = Decode(bytes);
  if (!key.ok()) {
    return absl::DataLossError(
        Cat("round key ", path, ": ", StdView(key.status().message()),
            "; cancel the round, its uploads cannot be opened"));
  }
  if (key->round != round || key->attempt != attempt) {
    return absl::DataLossError(Cat("round key ", path, ": it belongs to round ",
                                   key->round, " attempt ", key->attempt));
  }
  return key;
}

bool RoundKeyFiles::Exists(int64_t round, int64_t attempt) const {
  return fs_->Exists(PathOf(round, attempt));
}

absl::Status RoundKeyFiles::Destroy(int64_t round, int64_t attempt) {
  return DestroyFile(PathOf(round, attempt));
}

absl::Status RoundKeyFiles::DestroyFile(const std::string& path) {
  absl::StatusOr<std::unique_ptr<File>> file = fs_->Open(path, {.write = true});
  if (absl::IsNotFound(file.status())) return absl::OkStatus();
  CONSILIUM_RETURN_IF_ERROR(file.status());
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, (*file)->Size());
  const std::vector<std::byte> zeros(
      static_cast<size_t>(std::min(size, kMaxFileBytes)));
  CONSILIUM_RETURN_IF_ERROR((*file)->WriteAt(0, zeros));
  CONSILIUM_RETURN_IF_ERROR((*file)->Sync());
  file->reset();
  CONSILIUM_RETURN_IF_ERROR(fs_->Remove(path));
  return fs_->SyncDir(dir_);
}

absl::StatusOr<int64_t> RoundKeyFiles::RemoveTemps() {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs_->List(dir_));
  int64_t removed = 0;
  for (const std::string& name : names) {
    if (!name.ends_with(kTempSuffix)) continue;
    CONSILIUM_RETURN_IF_ERROR(DestroyFile(JoinPath(dir_, name)));
    ++removed;
  }
  return removed;
}

absl::StatusOr<std::vector<std::pair<int64_t, int64_t>>> RoundKeyFiles::List()
    const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs_->List(dir_));
  std::vector<std::pair<int64_t, int64_t>> out;
  for (const std::string& name : names) {
    std::pair<int64_t, int64_t> key;
    if (ParseName(name, &key)) out.push_back(key);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace consilium
