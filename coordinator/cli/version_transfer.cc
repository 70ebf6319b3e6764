// version export and import: files of any size, one piece in memory.

#include <algorithm>
#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "consilium/secure/signing.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/import_source.h"
#include "coordinator/cli/json.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
// The coordinator's limits.max_layout_bytes says what it takes; no setting of
// it is above this.
constexpr int64_t kMaxLayoutBytes = int64_t{1} << 30;
constexpr int kMaxResumes = 5;

// Feeds the first `bytes` of a file to `hasher`.
absl::Status HashFile(File* file, int64_t bytes, Hasher* hasher) {
  std::vector<std::byte> piece(
      static_cast<size_t>(std::min(kPieceBytes, std::max<int64_t>(bytes, 1))));
  for (int64_t at = 0; at < bytes;) {
    const std::span<std::byte> part = std::span(piece).first(
        static_cast<size_t>(std::min(kPieceBytes, bytes - at)));
    CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(file, at, part));
    hasher->Update(part);
    at += static_cast<int64_t>(part.size());
  }
  return absl::OkStatus();
}

// From `at`, at most kPieceBytes, whole characters: each piece is valid text.
std::string LayoutPiece(const std::string& layout, size_t at) {
  size_t end = std::min(layout.size(), at + static_cast<size_t>(kPieceBytes));
  const auto inside = [&layout](size_t i) {
    return (static_cast<unsigned char>(layout[i]) & 0xC0) == 0x80;
  };
  while (end < layout.size() && end > at + 1 && inside(end)) --end;
  return layout.substr(at, end - at);
}

// What the pinned signing key says about the version. False: none is pinned,
// and nothing was checked.
absl::StatusOr<bool> CheckSignature(Cli& cli, const v1::VersionInfo& version) {
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  if (!session->signing_key.has_value()) return false;
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::FederationInfo federation,
      cli.Call(&AdminApi::GetFederation, v1::GetFederationRequest()));
  VersionStatement statement;
  statement.federation = federation.name();
  CONSILIUM_ASSIGN_OR_RETURN(statement.version, FromProto(version.version()));
  CONSILIUM_ASSIGN_OR_RETURN(
      statement.layout_digest,
      DigestOf(federation.layout_digest(), "layout_digest"));
  CONSILIUM_ASSIGN_OR_RETURN(const Signature signature,
                             Signature::FromBytes(version.signature()));
  CONSILIUM_RETURN_IF_ERROR(
      VerifyStatement(*session->signing_key, statement, signature));
  return true;
}

class Export {
 public:
  Export(Cli& cli, const v1::VersionInfo& version, std::string part_path)
      : cli_(cli),
        version_(version),
        part_path_(std::move(part_path)),
        hasher_(NewSha256Hasher()),
        total_(static_cast<int64_t>(version.version().bytes())) {}

  absl::Status Run() {
    FileSystem* const fs = cli_.env().fs;
    OpenOptions options;
    options.write = true;
    options.create = true;
    CONSILIUM_ASSIGN_OR_RETURN(file_, fs->Open(part_path_, options));
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, file_->Size());
    // More than the version has is no part of it.
    if (size > total_) CONSILIUM_RETURN_IF_ERROR(file_->Truncate(0));
    offset_ = size > total_ ? 0 : size;
    resumed_at_ = offset_;
    CONSILIUM_RETURN_IF_ERROR(HashFile(file_.get(), offset_, hasher_.get()));
    CONSILIUM_RETURN_IF_ERROR(Download());
    const Sha256Digest digest = hasher_->Finish();
    CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest wanted,
                               DigestOf(version_.version().digest(), "digest"));
    if (digest != wanted) {
      CONSILIUM_RETURN_IF_ERROR(file_->Close());
      CONSILIUM_RETURN_IF_ERROR(fs->Remove(part_path_));
      return absl::DataLossError(Cat("what arrived has digest ", digest.Hex(),
                                     ", version ", version_.version().number(),
                                     " has ", wanted.Hex(),
                                     "; it was deleted, try again"));
    }
    CONSILIUM_RETURN_IF_ERROR(file_->Sync());
    return file_->Close();
  }

  int64_t resumed_at() const { return resumed_at_; }

 private:
  absl::Status Download() {
    CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli_.Session());
    for (int attempt = 0; offset_ < total_; ++attempt) {
      const int64_t before = offset_;
      v1::DownloadRequest request;
      request.set_version_digest(version_.version().digest());
      request.set_offset(static_cast<uint64_t>(offset_));
      const absl::Status status = session->api->DownloadVersion(
          request, [&](const v1::DownloadChunk& chunk) { return Take(chunk); });
      if (offset_ == total_) break;
      // A stream that broke after some bytes is worth another one.
      const bool again = absl::IsUnavailable(status) && offset_ > before &&
                         attempt < kMaxResumes;
      if (again) continue;
      const absl::Status why =
          status.ok() ? ConnectionError(
                            absl::UnavailableError("the stream ended early"))
                      : status;
      return Annotate(
          why, Cat("after ", offset_, " of ", total_, " bytes (", part_path_,
                   " is kept; the same command "
                   "continues it)"));
    }
    return absl::OkStatus();
  }

  absl::Status Take(const v1::DownloadChunk& chunk) {
    const std::span<const std::byte> data = AsBytes(chunk.data());
    const int64_t size = static_cast<int64_t>(data.size());
    if (chunk.offset() != static_cast<uint64_t>(offset_) ||
        offset_ + size > total_) {
      return absl::DataLossError(Cat("bytes at offset ", chunk.offset(),
                                     " came, expected was ", offset_, " of ",
                                     total_));
    }
    CONSILIUM_RETURN_IF_ERROR(file_->WriteAt(offset_, data));
    hasher_->Update(data);
    offset_ += size;
    return absl::OkStatus();
  }

  Cli& cli_;
  const v1::VersionInfo& version_;
  const std::string part_path_;
  const std::unique_ptr<Hasher> hasher_;
  const int64_t total_;
  std::unique_ptr<File> file_;
  int64_t offset_ = 0;
  int64_t resumed_at_ = 0;
};

}  // namespace

absl::Status ExportVersion(Cli& cli, uint64_t number, const std::string& path,
                           bool force) {
  FileSystem* const fs = cli.env().fs;
  if (!force && fs->Exists(path)) {
    return absl::AlreadyExistsError(
        Cat(path, " is there already; --force replaces it"));
  }
  v1::GetVersionRequest get;
  get.set_number(number);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::VersionInfo version,
                             cli.Call(&AdminApi::GetVersion, get));
  if (!version.blob_present()) {
    return absl::NotFoundError(
        Cat("the parameters of version ", number,
            " were deleted by storage.version_retention"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const bool checked, CheckSignature(cli, version));
  // Named by the digest: a part of another version is never continued.
  const std::string part = Cat(
      path, ".", HexEncode(AsBytes(version.version().digest())).substr(0, 16),
      ".part");
  Export run(cli, version, part);
  CONSILIUM_RETURN_IF_ERROR(run.Run());
  CONSILIUM_RETURN_IF_ERROR(RenameDurably(fs, part, path));
  if (cli.json()) {
    cli.PrintJson(
        JsonObject()
            .Number("version", number)
            .Text("path", path)
            .Text("digest", HexEncode(AsBytes(version.version().digest())))
            .Number("bytes", version.version().bytes())
            .Number("resumed_at", static_cast<uint64_t>(run.resumed_at()))
            .Bool("signature_checked", checked)
            .ToString());
    return absl::OkStatus();
  }
  cli.out() << path << ": version " << number << ", "
            << FormatBytes(version.version().bytes()) << ", SHA-256 "
            << HexEncode(AsBytes(version.version().digest())) << "\n"
            << (checked ? "signed by the coordinator's key\n"
                        : "signature: not checked, no signing_key is named in "
                          "the configuration\n");
  return absl::OkStatus();
}

absl::Status ImportVersion(Cli& cli, const std::string& path,
                           const std::string& layout_path,
                           const Confirmation& confirmation) {
  FileSystem* const fs = cli.env().fs;
  CONSILIUM_ASSIGN_OR_RETURN(const std::string layout,
                             ReadWholeFile(fs, layout_path, kMaxLayoutBytes));
  CONSILIUM_ASSIGN_OR_RETURN(const ImportSource source,
                             ImportSource::Open(fs, path, layout_path, layout));
  const int64_t total = source.bytes();
  CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest digest, source.Digest());
  if (!confirmation.yes) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const v1::FederationInfo federation,
        cli.Call(&AdminApi::GetFederation, v1::GetFederationRequest()));
    // The first one takes nothing from anybody.
    if (federation.has_current()) {
      cli.Confirmed(
          confirmation, Cat("version import ", path),
          {Cat("serve it (", FormatBytes(static_cast<uint64_t>(total)),
               ", SHA-256 ", digest.Hex(),
               ") as a new version to every institution"),
           Cat("replace version ", federation.current().number())});
      return absl::OkStatus();
    }
  }
  int64_t offset = 0;
  size_t layout_sent = 0;
  bool first = true;
  const auto next = [&](v1::ImportVersionChunk* chunk) -> absl::StatusOr<bool> {
    if (!first && offset >= total) return false;
    if (first || layout_sent < layout.size()) {
      chunk->set_layout_text(LayoutPiece(layout, layout_sent));
      layout_sent += chunk->layout_text().size();
      if (!std::exchange(first, false)) return true;
      chunk->set_sha256(BytesOf(digest));
      chunk->set_total_bytes(static_cast<uint64_t>(total));
      chunk->set_reason(confirmation.reason);
    } else {
      std::string& data = *chunk->mutable_data();
      data.resize(static_cast<size_t>(std::min(kPieceBytes, total - offset)));
      CONSILIUM_RETURN_IF_ERROR(source.Read(
          offset, std::as_writable_bytes(std::span(data.data(), data.size()))));
      offset += static_cast<int64_t>(data.size());
    }
    return true;
  };
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  v1::VersionInfo version;
  CONSILIUM_RETURN_IF_ERROR(session->api->ImportVersion(next, &version));
  return cli.Show(version, [&](std::ostream& out) {
    out << "Imported version " << FormatVersion(version.version()) << ", "
        << version.state() << (version.current() ? ", current" : "") << ".\n";
  });
}

}  // namespace consilium
