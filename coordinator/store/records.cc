#include "coordinator/store/records.h"

#include <array>
#include <span>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

// Indexed by the enumerator's value.
constexpr std::array<std::string_view, 4> kInstitutionStates = {
    "invited", "active", "suspended", "revoked"};
constexpr std::array<std::string_view, 4> kVersionStates = {
    "candidate", "promoted", "rejected", "rolled_back"};
constexpr std::array<std::string_view, 3> kRoundKeyStates = {"none", "live",
                                                             "destroyed"};
constexpr std::array<std::string_view, 6> kContributionStates = {
    "uploading", "committed", "folded", "quarantined", "superseded", "expired"};
constexpr std::array<std::string_view, 3> kMetricPhases = {"train", "evaluate",
                                                           "aggregate"};

template <typename E>
absl::StatusOr<E> Parse(std::span<const std::string_view> words,
                        std::string_view what, std::string_view word) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == word) return static_cast<E>(i);
  }
  std::string known;
  for (const std::string_view w : words) {
    CatInto(known, known.empty() ? "" : ", ", w);
  }
  return absl::InvalidArgumentError(
      Cat("unknown ", what, " ", Quoted(word), "; known are ", known));
}

template <typename E>
std::string_view Name(std::span<const std::string_view> words, E value) {
  return words[static_cast<size_t>(value)];
}

}  // namespace

std::string_view ToString(InstitutionState state) {
  return Name(kInstitutionStates, state);
}
std::string_view ToString(VersionState state) {
  return Name(kVersionStates, state);
}
std::string_view ToString(RoundKeyState state) {
  return Name(kRoundKeyStates, state);
}
std::string_view ToString(ContributionState state) {
  return Name(kContributionStates, state);
}
std::string_view ToString(MetricPhase phase) {
  return Name(kMetricPhases, phase);
}

absl::StatusOr<InstitutionState> ParseInstitutionState(std::string_view word) {
  return Parse<InstitutionState>(kInstitutionStates, "institution state", word);
}
absl::StatusOr<VersionState> ParseVersionState(std::string_view word) {
  return Parse<VersionState>(kVersionStates, "version state", word);
}
absl::StatusOr<RoundKeyState> ParseRoundKeyState(std::string_view word) {
  return Parse<RoundKeyState>(kRoundKeyStates, "round key state", word);
}
absl::StatusOr<ContributionState> ParseContributionState(
    std::string_view word) {
  return Parse<ContributionState>(kContributionStates, "contribution state",
                                  word);
}
absl::StatusOr<MetricPhase> ParseMetricPhase(std::string_view word) {
  return Parse<MetricPhase>(kMetricPhases, "metric phase", word);
}

}  // namespace consilium
