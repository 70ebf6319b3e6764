#include "tests/integration/checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <utility>
#include <variant>

#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/split_mix.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/tables.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

// A version's parameters as they lie in the store.
absl::StatusOr<std::vector<float>> ParametersOf(TestFederation& federation,
                                                int64_t number) {
  Store& store = federation.engine().store();
  VersionRow row;
  CONSILIUM_RETURN_IF_ERROR(
      store.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, GetVersion(tx, number));
        return absl::OkStatus();
      }));
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             store.blobs().Open(row.digest, row.blob_bytes));
  const Layout& layout = federation.layout();
  CONSILIUM_ASSIGN_OR_RETURN(
      const VersionFileInfo info,
      ReadVersionFile(file.get(), layout,
                      layout.ComputeId(Sha256HasherFactory())));
  std::vector<float> values(static_cast<size_t>(layout.total_elements()));
  CONSILIUM_RETURN_IF_ERROR(
      ReadExactlyAt(file.get(), info.data_offset,
                    std::as_writable_bytes(std::span<float>(values))));
  return values;
}

}  // namespace

float Delta::At(int64_t element) const {
  SplitMixRandom mix((seed << 40) + static_cast<uint64_t>(element));
  // 24 random bits around zero: every value is an exact float.
  return static_cast<float>(static_cast<int64_t>(mix.Next() >> 40) -
                            (1 << 23)) *
         0x1p-24f;
}

absl::StatusOr<client::SubmitOutcome> Submit(
    client::Client& client, const client::TrainTask& task, const Layout& layout,
    const Delta& delta, int64_t* elements_filled,
    const client::SubmitOptions& options) {
  std::map<std::string, int64_t, std::less<>> first_of;
  for (const TensorSlot& slot : layout.slots()) {
    first_of[slot.name] = slot.first_element;
  }
  client::UpdateSource source;
  source.fill = [&](std::string_view tensor, int64_t first,
                    std::span<float> out) {
    int64_t element = first_of.find(tensor)->second + first;
    for (float& x : out) x = delta.At(element++);
    if (elements_filled != nullptr) {
      *elements_filled += static_cast<int64_t>(out.size());
    }
    return absl::OkStatus();
  };
  source.report.examples = delta.examples;
  return client.Submit(task, source, options);
}

client::Receipt SubmitTask(TestFederation& federation, client::Client& client,
                           const Delta& delta) {
  const auto outcome =
      Submit(client, WaitForTask(client), federation.layout(), delta);
  EXPECT_THAT(outcome, IsOk()) << delta.institution;
  if (!outcome.ok()) return {};
  if (const auto* refused = std::get_if<client::Refused>(&*outcome)) {
    ADD_FAILURE() << delta.institution << ": " << refused->message;
    return {};
  }
  return std::get<client::Receipt>(*outcome);
}

void ExpectExactMean(TestFederation& federation, uint64_t round,
                     std::vector<Delta> deltas) {
  const v1::RoundInfo end = federation.WaitForEnd(round);
  ASSERT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(end.contributions(), deltas.size());

  std::sort(deltas.begin(), deltas.end(), [](const Delta& a, const Delta& b) {
    return a.institution < b.institution;
  });
  std::vector<std::string> counted;
  for (const v1::ContributionInfo& info : ContributionsOf(federation, round)) {
    if (info.state() != "folded" && info.state() != "committed") continue;
    EXPECT_EQ(info.state(), "folded") << info.institution();
    counted.push_back(Cat(info.institution(), " ", info.examples()));
  }
  std::sort(counted.begin(), counted.end());
  std::vector<std::string> wanted;
  for (const Delta& d : deltas) {
    wanted.push_back(Cat(d.institution, " ", d.examples));
  }
  EXPECT_EQ(counted, wanted);

  const double max_weight = std::stod(end.settings().at("maximum_weight"));
  std::vector<double> weights;
  double sum = 0;
  for (const Delta& d : deltas) {
    ASSERT_OK_AND_ASSIGN(
        const int64_t u,
        QuantizeWeight(static_cast<double>(d.examples), max_weight));
    weights.push_back(static_cast<double>(u));
    sum += weights.back();
  }
  ASSERT_OK_AND_ASSIGN(
      const std::vector<float> base,
      ParametersOf(federation, static_cast<int64_t>(end.base().number())));
  ASSERT_OK_AND_ASSIGN(
      const std::vector<float> made,
      ParametersOf(federation, static_cast<int64_t>(end.candidate().number())));
  ASSERT_EQ(base.size(), made.size());
  int64_t wrong = 0;
  for (size_t i = 0; i < made.size() && wrong < 3; ++i) {
    double total = 0;
    for (size_t d = 0; d < deltas.size(); ++d) {
      total += weights[d] *
               static_cast<double>(deltas[d].At(static_cast<int64_t>(i)));
    }
    const float mean =
        static_cast<float>(static_cast<double>(base[i]) + total / sum);
    if (std::bit_cast<uint32_t>(mean) == std::bit_cast<uint32_t>(made[i])) {
      continue;
    }
    ADD_FAILURE() << "element " << i << " is " << made[i] << ", the mean is "
                  << mean;
    ++wrong;
  }
}

void ExpectStoreIsWhole(TestFederation& federation) {
  ASSERT_OK_AND_ASSIGN(
      const CheckReport report,
      CheckStore(federation.engine().store(), CheckOptions{.deep = true}));
  for (const CheckProblem& problem : report.problems) {
    ADD_FAILURE() << problem.kind << ": " << problem.object << ": "
                  << problem.detail;
  }
  EXPECT_GT(report.audit_entries, 0);
}

std::vector<v1::ContributionInfo> ContributionsOf(TestFederation& federation,
                                                  uint64_t round) {
  v1::ListContributionsRequest request;
  request.set_round(round);
  request.set_limit(1000);
  v1::ListContributionsResponse response;
  grpc::ClientContext context;
  const grpc::Status status =
      federation.admin().ListContributions(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return {response.contributions().begin(), response.contributions().end()};
}

v1::MemberInfo MemberOf(TestFederation& federation, uint64_t round,
                        const std::string& institution) {
  v1::GetRoundRequest request;
  request.set_round(round);
  v1::RoundInfo info;
  grpc::ClientContext context;
  const grpc::Status status =
      federation.admin().GetRound(&context, request, &info);
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (const v1::MemberInfo& member : info.members()) {
    if (member.institution() == institution) return member;
  }
  ADD_FAILURE() << institution << " is not in round " << round;
  return {};
}

}  // namespace consilium
