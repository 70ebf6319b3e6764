// gMock matchers and assertions for absl::Status and absl::StatusOr<T>.
//
//   EXPECT_THAT(fs->Remove(path), IsOk());
//   EXPECT_THAT(reader.U8(), IsOkAndHolds(7));
//   EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("x")));
//   ASSERT_OK_AND_ASSIGN(auto file, fs->Open(path, {}));
#ifndef CONSILIUM_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define CONSILIUM_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/status_macros.h"

namespace consilium {

namespace internal {

inline const absl::Status& ToStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

template <typename Inner>
class IsOkAndHoldsMatcher {
 public:
  explicit IsOkAndHoldsMatcher(Inner inner) : inner_(std::move(inner)) {}

  template <typename StatusOrT>
  operator ::testing::Matcher<StatusOrT>() const {  // NOLINT: as gMock wants
    return ::testing::Matcher<StatusOrT>(new Impl<StatusOrT>(inner_));
  }

 private:
  template <typename StatusOrT>
  class Impl : public ::testing::MatcherInterface<StatusOrT> {
    using Value = typename std::remove_cvref_t<StatusOrT>::value_type;

   public:
    explicit Impl(const Inner& inner)
        : inner_(::testing::SafeMatcherCast<const Value&>(inner)) {}

    void DescribeTo(std::ostream* out) const override {
      *out << "is OK and holds a value that ";
      inner_.DescribeTo(out);
    }
    void DescribeNegationTo(std::ostream* out) const override {
      *out << "is not OK or holds a value that ";
      inner_.DescribeNegationTo(out);
    }
    bool MatchAndExplain(
        StatusOrT actual,
        ::testing::MatchResultListener* listener) const override {
      if (!actual.ok()) {
        *listener << "which has status " << actual.status().ToString();
        return false;
      }
      return inner_.MatchAndExplain(*actual, listener);
    }

   private:
    const ::testing::Matcher<const Value&> inner_;
  };

  const Inner inner_;
};

}  // namespace internal

MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  const absl::Status& status = ::consilium::internal::ToStatus(arg);
  if (!status.ok()) *result_listener << "which is " << status.ToString();
  return status.ok();
}

template <typename Inner>
internal::IsOkAndHoldsMatcher<std::decay_t<Inner>> IsOkAndHolds(Inner&& inner) {
  return internal::IsOkAndHoldsMatcher<std::decay_t<Inner>>(
      std::forward<Inner>(inner));
}

MATCHER_P(StatusIs, code,
          std::string(negation ? "is not " : "is ") +
              absl::StatusCodeToString(code)) {
  const absl::Status& status = ::consilium::internal::ToStatus(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code;
}

MATCHER_P2(StatusIs, code, message,
           std::string(negation ? "is not " : "is ") +
               absl::StatusCodeToString(code) + " with a message that " +
               ::testing::DescribeMatcher<std::string>(message)) {
  const absl::Status& status = ::consilium::internal::ToStatus(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code &&
         ::testing::Matches(message)(std::string(status.message()));
}

}  // namespace consilium

#define ASSERT_OK(...) ASSERT_THAT((__VA_ARGS__), ::consilium::IsOk())
#define EXPECT_OK(...) EXPECT_THAT((__VA_ARGS__), ::consilium::IsOk())

#define ASSERT_OK_AND_ASSIGN(lhs, ...)  \
  CONSILIUM_ASSERT_OK_AND_ASSIGN_IMPL_( \
      CONSILIUM_CONCAT_(consilium_status_or_, __COUNTER__), lhs, __VA_ARGS__)

#define CONSILIUM_ASSERT_OK_AND_ASSIGN_IMPL_(tmp, lhs, ...) \
  auto tmp = (__VA_ARGS__);                                 \
  ASSERT_TRUE(tmp.ok()) << tmp.status().ToString();         \
  lhs = *std::move(tmp)

#endif  // CONSILIUM_TESTS_SUPPORT_STATUS_MATCHERS_H_
