#include "coordinator/store/sqlite.h"

#include <sqlite3.h>

#include <cerrno>
#include <cmath>
#include <limits>

#include "consilium/base/local_error.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

absl::StatusCode CodeOf(int code) {
  switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
      return absl::StatusCode::kAlreadyExists;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
      return absl::StatusCode::kFailedPrecondition;
    default:
      break;
  }
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
      return absl::StatusCode::kInvalidArgument;
    case SQLITE_NOMEM:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
    case SQLITE_PROTOCOL:
      return absl::StatusCode::kUnavailable;
    case SQLITE_READONLY:
      return absl::StatusCode::kFailedPrecondition;
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kNotFound;
    default:
      return absl::StatusCode::kInternal;
  }
}

// A log or its index that cannot be made or grown for want of space comes as
// another error than a page that does not fit.
bool IsFull(sqlite3* db, int code) {
  if ((code & 0xff) == SQLITE_FULL) return true;
  if (db == nullptr ||
      ((code & 0xff) != SQLITE_CANTOPEN && (code & 0xff) != SQLITE_IOERR)) {
    return false;
  }
  int error = sqlite3_system_errno(db);
  // Which a failed COMMIT does not set.
  sqlite3_vfs* vfs = nullptr;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs) ==
          SQLITE_OK &&
      vfs != nullptr && vfs->xGetLastError != nullptr) {
    error = vfs->xGetLastError(vfs, 0, nullptr);
  }
  return error == ENOSPC || error == EDQUOT;
}

std::string_view Advice(int code) {
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "; run `consilium db check` and restore a backup";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "; another process has the database open";
    default:
      return "";
  }
}

}  // namespace

int64_t ToDatabaseTime(absl::Time time) { return absl::ToUnixMicros(time); }

absl::Time FromDatabaseTime(int64_t micros) {
  if (micros == std::numeric_limits<int64_t>::max()) {
    return absl::InfiniteFuture();
  }
  if (micros == std::numeric_limits<int64_t>::min()) {
    return absl::InfinitePast();
  }
  return absl::FromUnixMicros(micros);
}

// --- Statement ---------------------------------------------------------------

Statement::~Statement() {
  if (stmt_ == nullptr) return;
  if (in_use_ == nullptr) {
    sqlite3_finalize(stmt_);
    return;
  }
  sqlite3_reset(stmt_);
  sqlite3_clear_bindings(stmt_);
  *in_use_ = false;
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_),
      stmt_(std::exchange(other.stmt_, nullptr)),
      in_use_(other.in_use_),
      next_(other.next_),
      status_(std::move(other.status_)) {}

void Statement::Bound(int code) {
  ++next_;
  if (code != SQLITE_OK && status_.ok()) status_ = connection_->Error(code);
}

void Statement::Damaged(const absl::Status& status) {
  if (!status_.ok()) return;
  status_ = absl::DataLossError(
      Cat(connection_->path(), ": a stored value is damaged: ",
          StdView(status.message()), "; run `consilium db check`"));
}

void Statement::BindNext(int64_t value) {
  Bound(sqlite3_bind_int64(stmt_, next_, value));
}

void Statement::BindNext(double value) {
  // SQLite turns NaN into NULL, which would hide it.
  if (std::isnan(value) && status_.ok()) {
    status_ = absl::InvalidArgumentError("NaN cannot be stored");
  }
  Bound(sqlite3_bind_double(stmt_, next_, value));
}

// A null pointer would bind NULL, so an empty view needs an address.
void Statement::BindNext(std::string_view value) {
  Bound(sqlite3_bind_text64(stmt_, next_, value.empty() ? "" : value.data(),
                            value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Statement::BindNext(BlobBytes value) {
  Bound(sqlite3_bind_blob64(stmt_, next_,
                            value.bytes.empty() ? "" : value.bytes.data(),
                            value.bytes.size(), SQLITE_TRANSIENT));
}

void Statement::BindNext(TextOrNull value) {
  if (value.text.empty()) {
    BindNext(std::nullopt);
  } else {
    BindNext(value.text);
  }
}

void Statement::BindNext(BlobOrNull value) {
  if (value.bytes.empty()) {
    BindNext(std::nullopt);
  } else {
    BindNext(BlobBytes{value.bytes});
  }
}

void Statement::BindNext(std::nullopt_t) {
  Bound(sqlite3_bind_null(stmt_, next_));
}

absl::StatusOr<bool> Statement::Step() {
  if (!status_.ok()) return status_;
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  status_ = connection_->Error(code);
  return status_;
}

bool Statement::IsNull(int column) const {
  return sqlite3_column_type(stmt_, column) == SQLITE_NULL;
}

int64_t Statement::Int(int column) const {
  return sqlite3_column_int64(stmt_, column);
}

double Statement::Real(int column) const {
  return sqlite3_column_double(stmt_, column);
}

std::string Statement::Text(int column) const {
  const auto* text =
      reinterpret_cast<const char*>(sqlite3_column_text(stmt_, column));
  if (text == nullptr) return {};
  return std::string(text,
                     static_cast<size_t>(sqlite3_column_bytes(stmt_, column)));
}

std::string Statement::Blob(int column) const {
  const auto* bytes =
      static_cast<const char*>(sqlite3_column_blob(stmt_, column));
  if (bytes == nullptr) return {};
  return std::string(bytes,
                     static_cast<size_t>(sqlite3_column_bytes(stmt_, column)));
}

std::optional<int64_t> Statement::OptInt(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Int(column);
}

std::optional<double> Statement::OptReal(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Real(column);
}

std::optional<absl::Time> Statement::OptTime(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Time(column);
}

Sha256Digest Statement::Digest(int column) {
  absl::StatusOr<Sha256Digest> digest = Sha256Digest::FromHex(Text(column));
  if (!digest.ok()) Damaged(digest.status());
  return digest.ok() ? *digest : Sha256Digest{};
}

// --- Connection --------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(
    const ConnectionOptions& options) {
  sqlite3* db = nullptr;
  const int flags =
      (options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
      SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code =
      sqlite3_open_v2(options.path.c_str(), &db, flags,
                      options.vfs.empty() ? nullptr : options.vfs.c_str());
  // The handle is there even after most errors, and owns their text.
  std::unique_ptr<Connection> connection(new Connection(db, options.path));
  if (code != SQLITE_OK) return connection->Error(code);

  sqlite3_busy_timeout(
      db, static_cast<int>(absl::ToInt64Milliseconds(options.busy_timeout)));
  sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
  CONSILIUM_RETURN_IF_ERROR(
      connection->Script("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
                         "PRAGMA cache_size = -2048; PRAGMA mmap_size = 0;"));
  if (!options.read_only) {
    CONSILIUM_RETURN_IF_ERROR(connection->Script(
        "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216;"));
  }
  return connection;
}

Connection::~Connection() {
  for (auto& [sql, cached] : cache_) sqlite3_finalize(cached.stmt);
  sqlite3_close_v2(db_);
}

absl::Status Connection::Error(int code) const {
  std::string_view text = db_ != nullptr ? sqlite3_errmsg(db_) : "";
  const std::string_view generic = sqlite3_errstr(code);
  if (text.empty() || text == "not an error") text = generic;
  const bool full = IsFull(db_, code);
  absl::Status status(
      full ? absl::StatusCode::kResourceExhausted : CodeOf(code),
      AbslView(Cat(
          path_, ": ", text, " (SQLite code ", code, ")",
          full ? "; free space on that volume and try again" : Advice(code))));
  // A row that is there already is an answer.
  if ((code & 0xff) == SQLITE_CONSTRAINT) return status;
  return full ? NoSpaceError(status) : LocalError(status);
}

absl::StatusOr<Statement> Connection::Prepare(std::string_view sql) {
  const auto found = cache_.find(AbslView(sql));
  if (found != cache_.end() && !found->second.in_use) {
    found->second.in_use = true;
    return Statement(this, found->second.stmt, &found->second.in_use);
  }
  sqlite3_stmt* stmt = nullptr;
  const int code =
      sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &stmt, nullptr);
  if (code != SQLITE_OK) return Error(code);
  // A statement that is running already is prepared once more, for this use.
  if (found != cache_.end()) return Statement(this, stmt, nullptr);
  Cached& entry = cache_[std::string(sql)];
  entry = {stmt, true};
  return Statement(this, stmt, &entry.in_use);
}

absl::Status Connection::Script(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return Error(code);
  return absl::OkStatus();
}

int64_t Connection::changes() const { return sqlite3_changes64(db_); }
int64_t Connection::last_insert_id() const {
  return sqlite3_last_insert_rowid(db_);
}
bool Connection::in_transaction() const {
  return sqlite3_get_autocommit(db_) == 0;
}

}  // namespace consilium
