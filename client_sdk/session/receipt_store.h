#ifndef CONSILIUM_CLIENT_SDK_SESSION_RECEIPT_STORE_H_
#define CONSILIUM_CLIENT_SDK_SESSION_RECEIPT_STORE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/session/transport.h"
#include "consilium/base/file.h"
#include "consilium/client/types.h"
#include "consilium/secure/ed25519.h"

namespace consilium::client::internal {

// A receipt as text: TOML, with everything that its signature covers and the
// signature. Who has the coordinator's public key can check it for ever.
std::string ReceiptText(const Receipt& receipt);
// Errors: INVALID_ARGUMENT. Nothing is said of the signature.
absl::StatusOr<Receipt> ParseReceipt(std::string_view text);
// Errors: UNAUTHENTICATED.
absl::Status VerifyReceipt(const VerifyKey& key, const Receipt& receipt);

// Proofs of what left the house: <directory>/<round>-<attempt>-<upload>.toml,
// one for each contribution, never removed by this program. One is there before
// its upload is taken out of the outbox, so an upload that has one is
// committed. Thread-safe.
class ReceiptStore {
 public:
  ReceiptStore(FileSystem* fs, std::string directory)
      : fs_(fs), directory_(std::move(directory)) {}

  // Durable when it returns.
  absl::Status Save(const Receipt& receipt);
  // The one for an upload of a round; for an upload that is not known any more
  // (`upload_id` empty, else hexadecimal) the round's newest. Files that are no
  // receipt, or that `key` has not signed, do not count. Empty: none.
  absl::StatusOr<std::optional<Receipt>> Find(const RoundRef& round,
                                              std::string_view upload_id,
                                              const VerifyKey& key) const;

  struct Listed {
    std::string path;
    absl::StatusOr<Receipt> receipt;  // or what is wrong with it
  };
  // By round. Empty where there is no such directory.
  absl::StatusOr<std::vector<Listed>> List(const VerifyKey& key) const;

 private:
  absl::StatusOr<Receipt> Read(const std::string& path,
                               const VerifyKey& key) const;

  FileSystem* const fs_;
  const std::string directory_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_RECEIPT_STORE_H_
