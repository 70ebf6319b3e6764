// A spool read again from its beginning to its end.
#ifndef CONSILIUM_TESTS_SUPPORT_RESUME_SPOOL_H_
#define CONSILIUM_TESTS_SUPPORT_RESUME_SPOOL_H_

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "consilium/base/status_macros.h"
#include "coordinator/store/spool.h"

namespace consilium {

inline absl::StatusOr<std::unique_ptr<SpoolWriter>> ResumeSpool(
    SpoolDir& spools, const std::string& path, RecordCheck check,
    DurableFn on_durable) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<SpoolResumer> resumer,
                             spools.OpenToResume(path));
  CONSILIUM_RETURN_IF_ERROR(
      resumer->Read(check, std::numeric_limits<int64_t>::max()).status());
  return resumer->Finish(std::move(on_durable));
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_RESUME_SPOOL_H_
