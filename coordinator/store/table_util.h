#ifndef CONSILIUM_COORDINATOR_STORE_TABLE_UTIL_H_
#define CONSILIUM_COORDINATOR_STORE_TABLE_UTIL_H_

// Shared by the *_table.cc files.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/history_store.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/tables.h"

namespace consilium {

// Runs a query whose rows `parse` (Statement& -> T) turns into values.
template <typename Parse, typename... Args>
auto Collect(ReadTx& tx, std::string_view sql, Parse parse, const Args&... args)
    -> absl::StatusOr<
        std::vector<decltype(parse(std::declval<Statement&>()))>> {
  std::vector<decltype(parse(std::declval<Statement&>()))> out;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      sql, [&](Statement& row) { out.push_back(parse(row)); }, args...));
  return out;
}

template <typename Parse, typename... Args>
auto FindOne(ReadTx& tx, std::string_view sql, Parse parse, const Args&... args)
    -> absl::StatusOr<
        std::optional<decltype(parse(std::declval<Statement&>()))>> {
  std::optional<decltype(parse(std::declval<Statement&>()))> out;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      sql, [&](Statement& row) { out = parse(row); }, args...));
  return out;
}

// The value of a Find, or NOT_FOUND saying what is not there.
template <typename T>
absl::StatusOr<T> Required(absl::StatusOr<std::optional<T>> found,
                           std::string_view what) {
  if (!found.ok()) return std::move(found).status();
  if (!found->has_value()) {
    return absl::NotFoundError(Cat(what, " does not exist"));
  }
  return *std::move(*found);
}

// An UPDATE that must have met a row.
inline absl::Status MustHaveChanged(WriteTx& tx, std::string_view what) {
  if (tx.connection().changes() > 0) return absl::OkStatus();
  return absl::NotFoundError(Cat(what, " does not exist"));
}

// The key that a page starts behind, when it does not say.
inline int64_t PageStart(const Page& page) {
  if (page.after.has_value()) return *page.after;
  return page.descending ? std::numeric_limits<int64_t>::max()
                         : std::numeric_limits<int64_t>::min();
}

inline absl::Status CheckPage(const Page& page) {
  if (page.limit >= 1 && page.limit <= 10000) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("page limit ", page.limit, " is not within 1..10000"));
}

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_TABLE_UTIL_H_
