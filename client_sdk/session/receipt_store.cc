#include "client_sdk/session/receipt_store.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/toml.h"
#include "consilium/secure/signing.h"

namespace consilium::client::internal {
namespace {

constexpr int64_t kMaxReceiptBytes = 16 << 10;
constexpr std::string_view kSuffix = ".toml";
constexpr std::string_view kForm = "consilium-receipt-1";

// The names that a certificate can hold need no escapes.
std::string Text(std::string_view key, std::string_view value) {
  return Cat(key, " = \"", value, "\"\n");
}
std::string Number(std::string_view key, int64_t value) {
  return Cat(key, " = ", value, "\n");
}

// Of a receipt's file; without an upload, how those of the round begin.
std::string NameOf(const RoundRef& round, std::string_view upload_id) {
  return Cat(round.round, "-", round.attempt, "-", upload_id);
}

class Fields {
 public:
  static absl::StatusOr<Fields> Of(std::string_view text) {
    CONSILIUM_ASSIGN_OR_RETURN(const TomlDocument document, ReadToml(text));
    Fields fields;
    for (const TomlEntry& entry : document.entries) {
      fields.values_[DottedName(entry.path)] = entry.value;
    }
    return fields;
  }
  absl::StatusOr<std::string> Text(const std::string& key) const {
    return Get<std::string>(key, "a text");
  }
  absl::StatusOr<int64_t> Number(const std::string& key, int64_t most) const {
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t value,
                               Get<int64_t>(key, "a number"));
    if (value < 0 || value > most) {
      return absl::InvalidArgumentError(
          Cat(key, " is ", value, ", must be between 0 and ", most));
    }
    return value;
  }
  // As written by HexEncode.
  absl::StatusOr<std::string> Hex(const std::string& key, size_t size) const {
    CONSILIUM_ASSIGN_OR_RETURN(const std::string hex, Text(key));
    const auto bytes = HexDecode(hex);
    if (!bytes.ok() || bytes->size() != size) {
      return absl::InvalidArgumentError(
          Cat(key, " is not ", size, " bytes in hexadecimal"));
    }
    return HexEncode(*bytes);
  }

 private:
  template <typename T>
  absl::StatusOr<T> Get(const std::string& key, std::string_view what) const {
    const auto it = values_.find(key);
    if (it == values_.end() || !std::holds_alternative<T>(it->second)) {
      return absl::InvalidArgumentError(Cat(key, " is not there as ", what));
    }
    return std::get<T>(it->second);
  }
  std::map<std::string, TomlValue> values_;
};

}  // namespace

std::string ReceiptText(const Receipt& r) {
  return Cat(
      "# The coordinator's word that it has this contribution. Keep it.\n",
      Text("form", kForm), Text("federation", r.federation),
      Text("institution", r.institution),
      Number("round", static_cast<int64_t>(r.round)),
      Number("attempt", r.attempt), Text("upload", r.upload_id),
      Text("payload_sha256", r.payload_digest.Hex()),
      Number("payload_bytes", static_cast<int64_t>(r.payload_bytes)), "# ",
      FormatTime(r.committed_at), "\n",
      Number("committed_at_micros", absl::ToUnixMicros(r.committed_at)),
      Text("signature_ed25519", r.signature));
}

absl::StatusOr<Receipt> ParseReceipt(std::string_view text) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  CONSILIUM_ASSIGN_OR_RETURN(const Fields fields, Fields::Of(text));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string form, fields.Text("form"));
  if (form != kForm) {
    return absl::InvalidArgumentError(
        Cat("form is ", Quoted(form), ", this program reads ", kForm));
  }
  Receipt r;
  CONSILIUM_ASSIGN_OR_RETURN(r.federation, fields.Text("federation"));
  CONSILIUM_ASSIGN_OR_RETURN(r.institution, fields.Text("institution"));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t round,
                             fields.Number("round", kMost));
  r.round = static_cast<uint64_t>(round);
  CONSILIUM_ASSIGN_OR_RETURN(
      const int64_t attempt,
      fields.Number("attempt", std::numeric_limits<uint32_t>::max()));
  r.attempt = static_cast<uint32_t>(attempt);
  CONSILIUM_ASSIGN_OR_RETURN(r.upload_id, fields.Hex("upload", kUploadIdBytes));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string digest,
                             fields.Text("payload_sha256"));
  CONSILIUM_ASSIGN_OR_RETURN(r.payload_digest, Sha256Digest::FromHex(digest));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t bytes,
                             fields.Number("payload_bytes", kMost));
  r.payload_bytes = static_cast<uint64_t>(bytes);
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t micros,
                             fields.Number("committed_at_micros", kMost));
  r.committed_at = absl::FromUnixMicros(micros);
  CONSILIUM_ASSIGN_OR_RETURN(
      r.signature, fields.Hex("signature_ed25519", Signature::kBytes));
  return r;
}

absl::Status VerifyReceipt(const VerifyKey& key, const Receipt& receipt) {
  ReceiptStatement statement;
  statement.federation = receipt.federation;
  statement.round = receipt.round;
  statement.attempt = receipt.attempt;
  statement.institution = receipt.institution;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::byte> upload_id,
                             HexDecode(receipt.upload_id));
  statement.upload_id = std::string(AsChars(upload_id));
  statement.payload_digest = receipt.payload_digest;
  statement.payload_bytes = receipt.payload_bytes;
  statement.committed_at = receipt.committed_at;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                             HexDecode(receipt.signature));
  CONSILIUM_ASSIGN_OR_RETURN(const Signature signature,
                             Signature::FromBytes(bytes));
  return VerifyStatement(key, statement, signature);
}

absl::Status ReceiptStore::Save(const Receipt& receipt) {
  CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(directory_));
  const std::string name =
      Cat(NameOf({receipt.round, receipt.attempt}, receipt.upload_id), kSuffix);
  return WriteFileAtomic(fs_, JoinPath(directory_, name),
                         AsBytes(ReceiptText(receipt)));
}

absl::StatusOr<Receipt> ReceiptStore::Read(const std::string& path,
                                           const VerifyKey& key) const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs_, path, kMaxReceiptBytes));
  absl::StatusOr<Receipt> receipt = ParseReceipt(text);
  if (!receipt.ok()) return Annotate(receipt.status(), path);
  const absl::Status verified = VerifyReceipt(key, *receipt);
  if (!verified.ok()) return Annotate(verified, path);
  return receipt;
}

absl::StatusOr<std::optional<Receipt>> ReceiptStore::Find(
    const RoundRef& round, std::string_view upload_id,
    const VerifyKey& key) const {
  std::optional<Receipt> found;
  if (!fs_->Exists(directory_)) return found;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs_->List(directory_));
  const std::string prefix = NameOf(round, upload_id);
  for (const std::string& name : names) {
    if (!name.starts_with(prefix)) continue;
    absl::StatusOr<Receipt> receipt = Read(JoinPath(directory_, name), key);
    if (!receipt.ok() || receipt->round != round.round ||
        receipt->attempt != round.attempt ||
        (!upload_id.empty() && receipt->upload_id != upload_id)) {
      continue;
    }
    if (!found.has_value() || found->committed_at < receipt->committed_at) {
      found = *std::move(receipt);
    }
  }
  return found;
}

absl::StatusOr<std::vector<ReceiptStore::Listed>> ReceiptStore::List(
    const VerifyKey& key) const {
  std::vector<Listed> listed;
  if (!fs_->Exists(directory_)) return listed;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs_->List(directory_));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, AbslView(kSuffix))) continue;
    const std::string path = JoinPath(directory_, name);
    listed.push_back({path, Read(path, key)});
  }
  std::sort(listed.begin(), listed.end(), [](const Listed& a, const Listed& b) {
    const auto rank = [](const Listed& l) {
      return std::make_tuple(l.receipt.ok(),
                             l.receipt.ok() ? l.receipt->round : 0,
                             l.receipt.ok() ? l.receipt->attempt : 0, l.path);
    };
    return rank(a) < rank(b);
  });
  return listed;
}

}  // namespace consilium::client::internal
