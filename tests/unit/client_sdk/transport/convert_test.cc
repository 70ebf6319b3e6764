#include "client_sdk/transport/convert.h"

#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "consilium/v1/federation.pb.h"
#include "tests/support/status_matchers.h"

namespace consilium::client::internal {
namespace {

TEST(ConvertTest, VersionZeroIsAVersion) {
  v1::WaitForWorkResponse response;
  response.mutable_idle()->set_reason("no round");
  ASSERT_OK_AND_ASSIGN(WorkReply reply, FromProto(response));
  EXPECT_FALSE(std::get<Idle>(reply.work).current.has_value());

  v1::VersionRef* const current = response.mutable_idle()->mutable_current();
  current->set_number(0);
  current->set_digest(std::string(32, 'd'));
  current->set_bytes(4096);
  ASSERT_OK_AND_ASSIGN(reply, FromProto(response));
  const Idle& idle = std::get<Idle>(reply.work);
  ASSERT_TRUE(idle.current.has_value());
  EXPECT_EQ(idle.current->number, 0u);
  EXPECT_EQ(idle.current->bytes, 4096u);
}

}  // namespace
}  // namespace consilium::client::internal
