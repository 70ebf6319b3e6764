// The file of `version import`: a version as the coordinator keeps it, or any
// safetensors file with the layout's tensors, read as if it were one.

#ifndef CONSILIUM_COORDINATOR_CLI_IMPORT_SOURCE_H_
#define CONSILIUM_COORDINATOR_CLI_IMPORT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"

namespace consilium {

class ImportSource {
 public:
  // Errors: INVALID_ARGUMENT and others naming the file and what is wrong: no
  // safetensors, a tensor missing, too much, of another shape or dtype; or the
  // layout does not parse.
  static absl::StatusOr<ImportSource> Open(FileSystem* fs,
                                           const std::string& path,
                                           const std::string& layout_path,
                                           std::string_view layout_text);

  int64_t bytes() const { return bytes_; }
  // What is sent at `at`; within bytes().
  absl::Status Read(int64_t at, std::span<std::byte> out) const;
  absl::StatusOr<Sha256Digest> Digest() const;

 private:
  // `bytes` of what is sent, from `at`: they lie at `offset` of the file.
  struct Part {
    int64_t at = 0;
    int64_t bytes = 0;
    int64_t offset = 0;
  };
  ImportSource() = default;

  std::unique_ptr<File> file_;
  std::string header_;  // goes before all parts
  std::vector<Part> parts_;
  int64_t bytes_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_IMPORT_SOURCE_H_
