// A directory of the real file system that goes with the test.
#ifndef CONSILIUM_TESTS_SUPPORT_TEMP_DIR_H_
#define CONSILIUM_TESTS_SUPPORT_TEMP_DIR_H_

#include <cstdlib>
#include <string>
#include <string_view>

#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"

namespace consilium {

class TempDir {
 public:
  TempDir() {
    const char* base = std::getenv("TMPDIR");
    path_ = JoinPath(base != nullptr ? base : "/tmp", "consilium-XXXXXX");
    CONSILIUM_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TempDir() { PosixFileSystem()->RemoveTree(path_).IgnoreError(); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const {
    return JoinPath(path_, name);
  }

 private:
  std::string path_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_TEMP_DIR_H_
