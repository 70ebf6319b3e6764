#include "coordinator/store/file_system_vfs.h"

#include <sqlite3.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/file_system_vfs_locks.h"

namespace consilium {
namespace {

// Behind sqlite3_vfs::pAppData.
struct Context {
  // SQLite's results say too little: a full disk has many.
  void Note(const absl::Status& status) {
    if (!status.ok()) {
      last_error.store(absl::IsResourceExhausted(status) ? ENOSPC : EIO);
    }
  }

  std::atomic<int> last_error{0};
  FileSystem* fs = nullptr;
  sqlite3_vfs* parent = nullptr;  // the system's, for time and randomness
  VfsNodes nodes;
};

// The part of a handle that C++ owns.
struct OpenFile {
  Context* context = nullptr;
  std::unique_ptr<File> file;
  std::string path;
  std::shared_ptr<VfsNode> node;
  VfsHolder holder;
  bool sync_folder = false;  // its name is not durable yet
  bool remove_on_close = false;
};

// What SQLite allocates; the first member must be its own.
struct Handle {
  sqlite3_file base;
  OpenFile* open;
};

OpenFile& Of(sqlite3_file* file) {
  return *reinterpret_cast<Handle*>(file)->open;
}

Context& Of(sqlite3_vfs* vfs) { return *static_cast<Context*>(vfs->pAppData); }

// --- sqlite3_io_methods ------------------------------------------------------

int Close(sqlite3_file* file) {
  OpenFile& open = Of(file);
  open.node->Unmap(open.holder);
  (void)open.node->Unlock(open.holder, SQLITE_LOCK_NONE);
  open.file.reset();
  if (open.remove_on_close) (void)open.context->fs->Remove(open.path);
  delete &open;
  return SQLITE_OK;
}

int Read(sqlite3_file* file, void* out, int bytes, sqlite3_int64 offset) {
  const std::span<std::byte> buffer(static_cast<std::byte*>(out),
                                    static_cast<size_t>(bytes));
  const absl::StatusOr<size_t> got = Of(file).file->ReadAt(offset, buffer);
  if (!got.ok()) return SQLITE_IOERR_READ;
  if (*got == buffer.size()) return SQLITE_OK;
  std::memset(buffer.data() + *got, 0, buffer.size() - *got);
  return SQLITE_IOERR_SHORT_READ;
}

int Write(sqlite3_file* file, const void* data, int bytes,
          sqlite3_int64 offset) {
  const absl::Status status = Of(file).file->WriteAt(
      offset, std::span(static_cast<const std::byte*>(data),
                        static_cast<size_t>(bytes)));
  Of(file).context->Note(status);
  if (status.ok()) return SQLITE_OK;
  return absl::IsResourceExhausted(status) ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  const absl::Status status = Of(file).file->Truncate(size);
  Of(file).context->Note(status);
  return status.ok() ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

int Sync(sqlite3_file* file, int) {
  OpenFile& open = Of(file);
  absl::Status status = open.file->Sync();
  open.context->Note(status);
  if (!status.ok()) return SQLITE_IOERR_FSYNC;
  if (open.sync_folder) {
    status = open.context->fs->SyncDir(DirName(open.path));
    open.context->Note(status);
    if (!status.ok()) return SQLITE_IOERR_DIR_FSYNC;
    open.sync_folder = false;
  }
  return SQLITE_OK;
}

int FileSize(sqlite3_file* file, sqlite3_int64* out) {
  const absl::StatusOr<int64_t> size = Of(file).file->Size();
  if (!size.ok()) return SQLITE_IOERR_FSTAT;
  *out = *size;
  return SQLITE_OK;
}

int Lock(sqlite3_file* file, int level) {
  return Of(file).node->Lock(Of(file).holder, level);
}
int Unlock(sqlite3_file* file, int level) {
  return Of(file).node->Unlock(Of(file).holder, level);
}
int CheckReservedLock(sqlite3_file* file, int* out) {
  *out = Of(file).node->Reserved() ? 1 : 0;
  return SQLITE_OK;
}

int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return 4096; }
// As SQLite's own VFS claims: a torn write harms no byte outside its range.
int DeviceCharacteristics(sqlite3_file*) {
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

int ShmMap(sqlite3_file* file, int region, int bytes, int extend,
           void volatile** out) {
  return Of(file).node->Map(Of(file).holder, region, bytes, extend != 0, out);
}
int ShmLock(sqlite3_file* file, int first, int count, int flags) {
  return Of(file).node->LockSlots(Of(file).holder, first, count, flags);
}
void ShmBarrier(sqlite3_file* file) { Of(file).node->Barrier(); }
int ShmUnmap(sqlite3_file* file, int) {
  Of(file).node->Unmap(Of(file).holder);
  return SQLITE_OK;
}

constexpr sqlite3_io_methods kMethods = {
    .iVersion = 2,
    .xClose = Close,
    .xRead = Read,
    .xWrite = Write,
    .xTruncate = Truncate,
    .xSync = Sync,
    .xFileSize = FileSize,
    .xLock = Lock,
    .xUnlock = Unlock,
    .xCheckReservedLock = CheckReservedLock,
    .xFileControl = FileControl,
    .xSectorSize = SectorSize,
    .xDeviceCharacteristics = DeviceCharacteristics,
    .xShmMap = ShmMap,
    .xShmLock = ShmLock,
    .xShmBarrier = ShmBarrier,
    .xShmUnmap = ShmUnmap,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

// --- sqlite3_vfs -------------------------------------------------------------

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags,
         int* out_flags) {
  auto* handle = reinterpret_cast<Handle*>(file);
  handle->base.pMethods = nullptr;  // until it is open: then xClose is not run
  handle->open = nullptr;
  // Temporary files stay in memory (PRAGMA temp_store), so each has a name.
  if (name == nullptr) return SQLITE_CANTOPEN;
  Context& context = Of(vfs);
  const bool create = (flags & SQLITE_OPEN_CREATE) != 0;
  absl::StatusOr<std::unique_ptr<File>> opened = context.fs->Open(
      name, {.write = (flags & SQLITE_OPEN_READWRITE) != 0,
             .create = create,
             .exclusive = create && (flags & SQLITE_OPEN_EXCLUSIVE) != 0});
  context.Note(opened.status());
  if (!opened.ok()) return SQLITE_CANTOPEN;
  auto open = std::make_unique<OpenFile>();
  open->context = &context;
  open->file = *std::move(opened);
  open->path = name;
  open->node = context.nodes.Get(name);
  open->remove_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  // Also of one that is there: a process killed since may have just made it.
  open->sync_folder =
      create && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL |
                          SQLITE_OPEN_SUPER_JOURNAL)) != 0;
  handle->open = open.release();
  handle->base.pMethods = &kMethods;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs* vfs, const char* name, int sync_folder) {
  FileSystem* fs = Of(vfs).fs;
  const absl::Status removed = fs->Remove(name);
  if (absl::IsNotFound(removed)) return SQLITE_IOERR_DELETE_NOENT;
  if (!removed.ok()) return SQLITE_IOERR_DELETE;
  if (sync_folder != 0 && !fs->SyncDir(DirName(name)).ok()) {
    return SQLITE_IOERR_DIR_FSYNC;
  }
  return SQLITE_OK;
}

int Access(sqlite3_vfs* vfs, const char* name, int flags, int* out) {
  const absl::StatusOr<FileInfo> info = Of(vfs).fs->Stat(name);
  // An empty file counts as missing, as with SQLite's own VFS: the question is
  // whether there is a journal to roll back.
  *out = info.ok() && (flags != SQLITE_ACCESS_EXISTS || info->size > 0) ? 1 : 0;
  return SQLITE_OK;
}

int FullPathname(sqlite3_vfs*, const char* name, int bytes, char* out) {
  if (std::strlen(name) + 1 > static_cast<size_t>(bytes)) {
    return SQLITE_CANTOPEN;
  }
  std::strcpy(out, name);
  return SQLITE_OK;
}

int Randomness(sqlite3_vfs* vfs, int bytes, char* out) {
  sqlite3_vfs* parent = Of(vfs).parent;
  return parent->xRandomness(parent, bytes, out);
}
int Sleep(sqlite3_vfs* vfs, int micros) {
  sqlite3_vfs* parent = Of(vfs).parent;
  return parent->xSleep(parent, micros);
}
int CurrentTime(sqlite3_vfs* vfs, double* out) {
  sqlite3_vfs* parent = Of(vfs).parent;
  return parent->xCurrentTime(parent, out);
}
int CurrentTimeInt64(sqlite3_vfs* vfs, sqlite3_int64* out) {
  sqlite3_vfs* parent = Of(vfs).parent;
  return parent->xCurrentTimeInt64(parent, out);
}
int GetLastError(sqlite3_vfs* vfs, int, char*) {
  return Of(vfs).last_error.load();
}

}  // namespace

struct FileSystemVfs::Impl {
  std::string name;
  Context context;
  sqlite3_vfs vfs{};
};

FileSystemVfs::FileSystemVfs(FileSystem* fs, std::string name)
    : impl_(std::make_unique<Impl>()) {
  impl_->name = std::move(name);
  impl_->context.fs = fs;
  impl_->context.parent = sqlite3_vfs_find(nullptr);
  CONSILIUM_CHECK(impl_->context.parent != nullptr);
  CONSILIUM_CHECK(sqlite3_vfs_find(impl_->name.c_str()) == nullptr);
  sqlite3_vfs& vfs = impl_->vfs;
  vfs.iVersion = 2;
  vfs.szOsFile = sizeof(Handle);
  vfs.mxPathname = 4096;
  vfs.zName = impl_->name.c_str();
  vfs.pAppData = &impl_->context;
  vfs.xOpen = Open;
  vfs.xDelete = Delete;
  vfs.xAccess = Access;
  vfs.xFullPathname = FullPathname;
  vfs.xRandomness = Randomness;
  vfs.xSleep = Sleep;
  vfs.xCurrentTime = CurrentTime;
  vfs.xGetLastError = GetLastError;
  vfs.xCurrentTimeInt64 = CurrentTimeInt64;
  CONSILIUM_CHECK(sqlite3_vfs_register(&vfs, /*makeDflt=*/0) == SQLITE_OK);
}

FileSystemVfs::~FileSystemVfs() { sqlite3_vfs_unregister(&impl_->vfs); }

const std::string& FileSystemVfs::name() const { return impl_->name; }

}  // namespace consilium
