#include "tests/crash/kill_fixture.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/store/maintenance.h"
#include "proto/wire/status.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr double kMaxWeight = 1e7;

std::function<absl::StatusOr<std::span<const float>>(const TensorSlot&)>
Everywhere(float value, std::vector<float>* memory) {
  return [value, memory](
             const TensorSlot& slot) -> absl::StatusOr<std::span<const float>> {
    memory->assign(static_cast<size_t>(slot.elements), value);
    return std::span<const float>(*memory);
  };
}

}  // namespace

std::string KillTest::program(const std::string& name) const {
  return JoinPath(OwnFolder(), name);
}

void KillTest::SetUp() {
  const std::string path = dir_ / "coordinator-switch";
  ASSERT_OK_AND_ASSIGN(kill_, KillSwitch::Create(path));
  LocalFederationOptions options;
  options.directory = dir_ / "federation";
  options.coordinator_program = program("crash_coordinator");
  options.environment = {Cat("CONSILIUM_KILL_SWITCH=", path)};
  options.config.storage.min_free_bytes = 0;
  options.config.log.level = LogLevel::kWarn;
  ASSERT_OK_AND_ASSIGN(federation_, LocalFederation::Create(options));
  ASSERT_OK(federation_->SetPolicy(
      {{"quorum", "2"}, {"evaluation.quorum", "2"}, {"deadline", "1h"}}));
  std::vector<float> memory;
  ASSERT_OK(
      federation_->ImportVersion(layout_, Everywhere(0, &memory)).status());
  ASSERT_OK(federation_->Enroll("bank-a"));
  ASSERT_OK(federation_->Enroll("bank-b"));
}

void KillTest::TearDown() {
  if (federation_ == nullptr) return;
  federation_->coordinator().Kill9();
  CheckHistory();
}

client::ClientOptions KillTest::OptionsFor(const std::string& name) const {
  client::ClientOptions options;
  options.coordinator = federation_->address();
  options.identity_dir = federation_->InstitutionDir(name);
  options.proxy = "none";
  options.retry.initial = absl::Milliseconds(5);
  options.retry.cap = absl::Milliseconds(100);
  return options;
}

std::unique_ptr<SdkInstitution> KillTest::StartInstitution(
    const std::string& name, float delta, uint64_t examples) {
  auto institution =
      std::make_unique<SdkInstitution>(OptionsFor(name), delta, examples);
  EXPECT_OK(institution->Start());
  return institution;
}

absl::StatusOr<v1::RoundInfo> KillTest::Look(uint64_t round) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  v1::GetRoundRequest request;
  request.set_round(round);
  v1::RoundInfo info;
  CONSILIUM_RETURN_IF_ERROR(
      FromGrpc(federation_->admin().GetRound(&context, request, &info)));
  return info;
}

std::string KillTest::DigestOf(float value) const {
  FaultFileSystem fs;
  const auto file = fs.Open("/version", {.write = true, .create = true});
  std::vector<float> memory;
  return WriteVersionFile(layout_, layout_.ComputeId(Sha256HasherFactory()),
                          Everywhere(value, &memory), Sha256HasherFactory(),
                          file->get())
      ->digest.Hex();
}

// base + sum(u x) / sum(u), rounded once.
float KillTest::Average(Folded folded) const {
  const auto weight = [](uint64_t examples) {
    return static_cast<double>(
        *QuantizeWeight(static_cast<double>(examples), kMaxWeight));
  };
  const double a = folded == Folded::kOnlyB ? 0 : weight(kExamplesA);
  const double b = folded == Folded::kOnlyA ? 0 : weight(kExamplesB);
  const double sum =
      a * static_cast<double>(kDeltaA) + b * static_cast<double>(kDeltaB);
  return static_cast<float>(static_cast<double>(value_) + sum / (a + b));
}

void KillTest::ExpectEnd(const v1::RoundInfo& end, const std::string& phase,
                         Folded folded) {
  EXPECT_EQ(end.phase(), phase) << end.reason();
  ended_[end.round()] = phase;
  if (phase != "promoted") return;
  EXPECT_EQ(end.contributions(), folded == Folded::kBoth ? 2u : 1u);
  value_ = Average(folded);
  EXPECT_EQ(HexEncode(AsBytes(end.candidate().digest())), DigestOf(value_));
}

// Consistent, and each fact there once.
void KillTest::CheckHistory() {
  StoreOptions options;
  options.data_dir = JoinPath(federation_->coordinator_dir(), "data");
  options.min_free_bytes = 0;
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
  ASSERT_OK(store->Recover(absl::UnixEpoch()).status());
  ASSERT_OK_AND_ASSIGN(const CheckReport report,
                       CheckStore(*store, {.deep = true}));
  for (const CheckProblem& problem : report.problems) {
    ADD_FAILURE() << problem.kind << " " << problem.object << ": "
                  << problem.detail;
  }
  ASSERT_OK(store->history().Read([&](ReadTx& tx) -> absl::Status {
    for (const auto& [round, phase] : ended_) {
      SCOPED_TRACE(Cat("round ", round));
      const auto id = static_cast<int64_t>(round);
      CONSILIUM_ASSIGN_OR_RETURN(const RoundRow row, GetRound(tx, id));
      EXPECT_EQ(row.state, phase);
      std::map<std::string, int> times;
      CONSILIUM_ASSIGN_OR_RETURN(const auto metrics, ListMetrics(tx, id));
      for (const MetricRow& m : metrics) {
        ++times[Cat("metric ", ToString(m.phase), " ", m.name, " ",
                    m.institution_id.value_or(0))];
      }
      CONSILIUM_ASSIGN_OR_RETURN(const auto events,
                                 ListRoundEvents(tx, id, {.limit = 1000}));
      for (const RoundEventRow& event : events) {
        // An operator may extend again.
        if (event.institution.empty() && event.kind != "extended") {
          ++times[event.kind];
        }
      }
      CONSILIUM_ASSIGN_OR_RETURN(const auto contributions,
                                 ListContributions(tx, {.round = id}));
      for (const ContributionRow& c : contributions) {
        if (c.state == ContributionState::kSuperseded) continue;
        ++times[Cat("contribution of ", c.institution_id)];
      }
      for (const auto& [what, count] : times) EXPECT_EQ(count, 1) << what;
    }
    return absl::OkStatus();
  }));
}

void ExpectSteps(const std::vector<std::string>& steps,
                 const std::vector<std::string>& labels) {
  for (const std::string& label : labels) {
    EXPECT_TRUE(std::any_of(steps.begin(), steps.end(),
                            [&](const std::string& step) {
                              return step.find(label) != std::string::npos;
                            }))
        << "no step " << Quoted(label) << " among "
        << testing::PrintToString(steps);
  }
}

}  // namespace consilium
