#include "coordinator/rpc/institution_call.h"

#include <memory>
#include <string>
#include <vector>

#include "consilium/v1/federation.pb.h"
#include "coordinator/rpc/institution_queues.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/manual_executor.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

grpc::ByteBuffer BytesOf(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

TEST(ParseRequestTest, SizeIsCheckedBeforeTheBytesAre) {
  v1::DeclineRequest sent;
  sent.set_round(7);
  sent.set_reason(std::string(100, 'x'));
  const std::string text = sent.SerializeAsString();
  const auto size = static_cast<int64_t>(text.size());
  v1::DeclineRequest request;
  ASSERT_OK(ParseRequest(BytesOf(text), size, &request));
  EXPECT_EQ(request.SerializeAsString(), text);
  EXPECT_THAT(ParseRequest(BytesOf(text), size - 1, &request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "the request has 104 bytes, the limit is "
                       "limits.max_control_bytes 103"));
  const std::string garbled(size, '\xff');
  EXPECT_THAT(ParseRequest(BytesOf(garbled), size - 1, &request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("limits.max_control_bytes")));
  EXPECT_THAT(ParseRequest(BytesOf(garbled), size, &request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no consilium.v1.DeclineRequest")));
  EXPECT_OK(ParseRequest(grpc::ByteBuffer(), size, &request));
  EXPECT_EQ(request.round(), 0u);
}

TEST(CallSlotTest, SoManyAtOnceAndThenAgain) {
  Caller caller{std::make_shared<PeerState>(), "01"};
  caller.peer->name = "bank-a";
  {
    CallSlot first;
    CallSlot second;
    CallSlot third;
    EXPECT_OK(first.Take(caller, 2));
    EXPECT_OK(second.Take(caller, 2));
    EXPECT_THAT(third.Take(caller, 2),
                StatusIs(absl::StatusCode::kResourceExhausted,
                         HasSubstr("bank-a has 3 calls under way, the limit is "
                                   "limits.max_calls_per_institution 2")));
  }
  EXPECT_EQ(caller.peer->calls.load(), 0);
  CallSlot again;
  EXPECT_OK(again.Take(caller, 1));
}

TEST(InstitutionQueuesTest, OneTakesOneThreadAndKeepsItsOrder) {
  ManualExecutor executor;
  InstitutionQueues queues(&executor);
  std::vector<std::string> ran;
  const auto schedule = [&](int64_t id, std::string name) {
    queues.Of(id).Schedule([&ran, name] { ran.push_back(name); });
  };
  for (const char* name : {"a1", "a2", "a3"}) schedule(1, name);
  EXPECT_EQ(executor.queued(), 1u);
  schedule(2, "b1");
  EXPECT_EQ(executor.queued(), 2u);
  executor.RunAll();
  std::vector<std::string> of_a;
  for (const std::string& name : ran) {
    if (name[0] == 'a') of_a.push_back(name);
  }
  EXPECT_THAT(of_a, ElementsAre("a1", "a2", "a3"));
  EXPECT_EQ(ran.size(), 4u);
}

}  // namespace
}  // namespace consilium
