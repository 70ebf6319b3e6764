#include "tests/integration/rounds.h"

#include <gtest/gtest.h>

#include <utility>
#include <variant>

#include "consilium/base/strings.h"
#include "proto/wire/status.h"
#include "tests/support/status_matchers.h"

namespace consilium {

TimedFederation::TimedFederation(Policy policy,
                                 std::vector<std::string> members)
    : clock_(absl::Now()) {
  TestFederation::Options options;
  options.clock = &clock_;
  options.policy = {{"quorum", "2"},
                    {"evaluation.enabled", "false"},
                    {"deadline", "10m"},
                    {"grace", "1m"},
                    {"evaluation.quorum", "1"}};
  for (auto& [key, value] : policy) options.policy[key] = value;
  federation_ = std::make_unique<TestFederation>(std::move(options));
  for (const std::string& name : members) {
    federation_->Enroll(name);
    clients_[name] = federation_->Connect(name);
  }
}

client::Client& TimedFederation::operator[](const std::string& name) {
  return *clients_.at(name);
}

void TimedFederation::Advance(absl::Duration by) {
  clock_.Advance(by);
  federation_->engine().Poll();
}

void ExpectReceipt(const absl::StatusOr<client::SubmitOutcome>& outcome) {
  ASSERT_THAT(outcome, IsOk());
  const auto* refused = std::get_if<client::Refused>(&*outcome);
  EXPECT_EQ(refused, nullptr) << refused->message;
}

std::string ExpectRefusal(const absl::StatusOr<client::SubmitOutcome>& outcome,
                          client::RefusalCode code) {
  EXPECT_THAT(outcome, IsOk());
  if (!outcome.ok()) return "";
  const auto* refused = std::get_if<client::Refused>(&*outcome);
  EXPECT_NE(refused, nullptr) << "a receipt";
  if (refused == nullptr) return "";
  EXPECT_EQ(client::RefusalCodeName(refused->code),
            client::RefusalCodeName(code))
      << refused->message;
  return refused->message;
}

void Contribute(client::Client& client, float value, uint64_t examples) {
  ExpectReceipt(SubmitConstant(client, WaitForTask(client), value, examples));
}

absl::StatusOr<client::SubmitOutcome> SubmitTensors(
    client::Client& client, const client::TrainTask& task,
    std::vector<std::string> tensors, float value, uint64_t examples) {
  client::UpdateSource source;
  source.tensors = std::move(tensors);
  source.fill = [value](std::string_view, int64_t, std::span<float> out) {
    for (float& x : out) x = value;
    return absl::OkStatus();
  };
  source.report.examples = examples;
  return client.Submit(task, source);
}

client::EvaluateTask WaitForEvaluation(client::Client& client) {
  const auto work = client.WaitForWork(absl::Seconds(60));
  const auto* const task =
      work.ok() ? std::get_if<client::EvaluateTask>(&*work) : nullptr;
  if (task == nullptr) {
    ADD_FAILURE() << "no evaluation: " << work.status();
    std::abort();  // nothing after it could make sense
  }
  return *task;
}

void Evaluate(client::Client& client, uint64_t examples,
              const std::map<std::string, double>& metrics) {
  const auto refused =
      client.ReportEvaluation(WaitForEvaluation(client), examples, metrics);
  ASSERT_THAT(refused, IsOk());
  EXPECT_FALSE(refused->has_value()) << (*refused)->message;
}

HeldSubmit::HeldSubmit(client::Client& client, client::TrainTask task,
                       float value, uint64_t examples) {
  std::future<void> uploaded = uploaded_.get_future();
  thread_ = std::thread([this, &client, task = std::move(task), value, examples,
                         go = go_.get_future()]() mutable {
    bool told = false;
    client::SubmitOptions options;
    options.progress = [&](const client::TransferProgress& progress) {
      if (told || progress.phase != client::TransferProgress::Phase::kUpload ||
          progress.done_bytes < progress.total_bytes) {
        return;
      }
      told = true;
      uploaded_.set_value();
      go.wait();
    };
    client::UpdateSource source;
    source.fill = [value](std::string_view, int64_t, std::span<float> out) {
      for (float& x : out) x = value;
      return absl::OkStatus();
    };
    source.report.examples = examples;
    outcome_ = client.Submit(task, source, options, cancel_.token());
    if (!told) uploaded_.set_value();
  });
  uploaded.wait();
}

HeldSubmit::~HeldSubmit() {
  if (thread_.joinable()) Die();
}

absl::StatusOr<client::SubmitOutcome> HeldSubmit::Finish() {
  go_.set_value();
  thread_.join();
  return std::move(outcome_);
}

void HeldSubmit::Die() {
  cancel_.Cancel("killed");
  go_.set_value();
  thread_.join();
  EXPECT_THAT(outcome_, StatusIs(absl::StatusCode::kCancelled));
}

v1::RoundInfo RoundOf(TestFederation& federation, uint64_t round) {
  v1::GetRoundRequest request;
  request.set_round(round);
  request.set_events(true);
  v1::RoundInfo info;
  grpc::ClientContext context;
  EXPECT_THAT(FromGrpc(federation.admin().GetRound(&context, request, &info)),
              IsOk());
  return info;
}

v1::VersionInfo VersionOf(TestFederation& federation, uint64_t number) {
  v1::GetVersionRequest request;
  request.set_number(number);
  v1::VersionInfo info;
  grpc::ClientContext context;
  EXPECT_THAT(FromGrpc(federation.admin().GetVersion(&context, request, &info)),
              IsOk());
  return info;
}

v1::MemberInfo Member(const v1::RoundInfo& round, const std::string& name) {
  for (const v1::MemberInfo& member : round.members()) {
    if (member.institution() == name) return member;
  }
  ADD_FAILURE() << name << " is not in round " << round.round();
  return {};
}

absl::Status SetPolicy(TestFederation& federation, const Policy& policy) {
  v1::SetFederationRequest request;
  request.mutable_policy()->insert(policy.begin(), policy.end());
  v1::FederationInfo response;
  grpc::ClientContext context;
  return FromGrpc(
      federation.admin().SetFederation(&context, request, &response));
}

absl::Status TryStartRound(TestFederation& federation) {
  v1::RoundInfo response;
  grpc::ClientContext context;
  return FromGrpc(federation.admin().StartRound(
      &context, v1::StartRoundRequest(), &response));
}

}  // namespace consilium
