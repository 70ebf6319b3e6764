#ifndef CONSILIUM_COORDINATOR_STORE_SCHEMA_H_
#define CONSILIUM_COORDINATOR_STORE_SCHEMA_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/sqlite.h"

namespace consilium {

// One step of the schema. Numbers are 1, 2, 3, ...; the database keeps the
// number of its last step in PRAGMA user_version.
struct Migration {
  int number;
  std::string_view name;
  std::string_view sql;
};

// The files of migrations/, embedded when the build is configured.
std::span<const Migration> EmbeddedMigrations();

// "CSLM": marks the file as ours in PRAGMA application_id.
inline constexpr int64_t kApplicationId = 0x43534c4d;

absl::StatusOr<int64_t> SchemaVersion(Connection& connection);

// Brings a database to the last of `migrations`, each step in a transaction
// of its own. Errors: those of CheckSchema, and of SQLite.
absl::Status Migrate(Connection& connection,
                     std::span<const Migration> migrations);

// Errors: DATA_LOSS not a history database; FAILED_PRECONDITION empty, newer
// than `migrations`, or (when not may_migrate) older.
absl::Status CheckSchema(Connection& connection,
                         std::span<const Migration> migrations,
                         bool may_migrate);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SCHEMA_H_
