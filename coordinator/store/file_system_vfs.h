#ifndef CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_H_
#define CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_H_

#include <memory>
#include <string>

#include "consilium/base/file.h"

namespace consilium {

// SQLite over a FileSystem, so that the database meets the same faults as the
// files beside it: torn writes, lost names, a full disk. For tests; a
// coordinator runs on SQLite's own VFS.
//
// One process only: file locks and the WAL index live in its memory, shared by
// all connections of this VFS and gone with the last one, as after a restart.
// Directory syncs follow SQLite's own VFS for Unix: a journal or log that was
// made is synced with its folder, the deletion of a log is not.
class FileSystemVfs {
 public:
  // Registers under `name`, which no other VFS has. The file system outlives
  // this, and this outlives every connection.
  FileSystemVfs(FileSystem* fs, std::string name);
  ~FileSystemVfs();
  FileSystemVfs(const FileSystemVfs&) = delete;
  FileSystemVfs& operator=(const FileSystemVfs&) = delete;

  const std::string& name() const;  // for StoreOptions::vfs

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_H_
