#include "coordinator/store/schema.h"

#include <string>

#include "consilium/base/strings.h"

namespace consilium {

absl::StatusOr<int64_t> SchemaVersion(Connection& connection) {
  return connection.OneInt("PRAGMA user_version");
}

absl::Status CheckSchema(Connection& connection,
                         std::span<const Migration> migrations,
                         bool may_migrate) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t id,
                             connection.OneInt("PRAGMA application_id"));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t schema, SchemaVersion(connection));
  if (id == 0 && schema == 0) {
    return absl::FailedPreconditionError(
        Cat(connection.path(),
            ": is empty; make a coordinator with `consilium init`"));
  }
  if (id != kApplicationId) {
    return absl::DataLossError(
        Cat(connection.path(), ": is an SQLite database of something else ",
            "(application_id ", id, ", expected ", kApplicationId, ")"));
  }
  const int64_t known = migrations.back().number;
  if (schema > known) {
    return absl::FailedPreconditionError(
        Cat(connection.path(), ": has schema ", schema,
            ", and this program knows schemas up to ", known,
            "; run the newer consilium that wrote it, or restore a backup ",
            "made before the upgrade"));
  }
  if (schema < known && !may_migrate) {
    return absl::FailedPreconditionError(
        Cat(connection.path(), ": has schema ", schema, ", this program needs ",
            known, "; start the coordinator once to upgrade it"));
  }
  return absl::OkStatus();
}

absl::Status Migrate(Connection& connection,
                     std::span<const Migration> migrations) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t from, SchemaVersion(connection));
  for (const Migration& step : migrations) {
    if (step.number <= from) continue;
    // DDL is transactional in SQLite: a crash leaves the step before.
    const absl::Status status = connection.Script(
        Cat("BEGIN IMMEDIATE;\n", step.sql,
            "\nPRAGMA application_id = ", kApplicationId,
            ";\nPRAGMA user_version = ", step.number, ";\nCOMMIT;"));
    if (!status.ok()) {
      if (connection.in_transaction()) {
        (void)connection.Script("ROLLBACK");
      }
      return Annotate(status,
                      Cat("schema migration ", step.number, " ", step.name));
    }
  }
  return absl::OkStatus();
}

}  // namespace consilium
