// A file that passes every call on.
#ifndef CONSILIUM_BASE_FORWARDING_FILE_H_
#define CONSILIUM_BASE_FORWARDING_FILE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"

namespace consilium {

// Derive from it and override the calls that matter.
class ForwardingFile : public File {
 public:
  explicit ForwardingFile(std::unique_ptr<File> file)
      : file_(std::move(file)) {}

  absl::StatusOr<size_t> ReadAt(int64_t offset,
                                std::span<std::byte> out) override {
    return file_->ReadAt(offset, out);
  }
  absl::Status WriteAt(int64_t offset,
                       std::span<const std::byte> data) override {
    return file_->WriteAt(offset, data);
  }
  absl::Status Sync() override { return file_->Sync(); }
  absl::StatusOr<int64_t> Size() override { return file_->Size(); }
  absl::Status Truncate(int64_t size) override { return file_->Truncate(size); }
  absl::Status Allocate(int64_t size) override { return file_->Allocate(size); }
  absl::Status StartWriteback(int64_t offset, int64_t length) override {
    return file_->StartWriteback(offset, length);
  }
  absl::Status Close() override { return file_->Close(); }
  const std::string& path() const override { return file_->path(); }

 private:
  const std::unique_ptr<File> file_;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_FORWARDING_FILE_H_
