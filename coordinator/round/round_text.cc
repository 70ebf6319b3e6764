#include "coordinator/round/round_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"

namespace consilium {
namespace {

std::string WithReason(std::string_view what, std::string_view reason) {
  return reason.empty() ? std::string(what) : Cat(what, " (", reason, ")");
}

std::string Percent(const std::optional<double>& fraction) {
  if (!fraction.has_value()) return "";
  return Cat(" ", static_cast<int>(std::floor(*fraction * 100.0)), " %");
}

}  // namespace

std::string DescribeMember(const RoundMember& m) {
  switch (m.state) {
    case MemberState::kInvited:
      return "not heard from";
    case MemberState::kTraining:
      return WithReason(Cat("training", Percent(m.progress)), m.progress_text);
    case MemberState::kUploading:
      if (!m.interrupted) return Cat("uploading", Percent(m.progress));
      return WithReason(m.progress.has_value()
                            ? Cat("upload interrupted at", Percent(m.progress))
                            : std::string("upload interrupted"),
                        m.reason);
    case MemberState::kCommitted:
      return m.quarantined ? WithReason("quarantined", m.reason)
                           : std::string("contributed");
    case MemberState::kDeclined:
      return WithReason("declined", m.reason);
    case MemberState::kFailed:
      return WithReason(m.quarantined ? "quarantined" : "failed", m.reason);
    case MemberState::kMissing:
      return WithReason("missing", m.reason);
    case MemberState::kRemoved:
      return WithReason("removed", m.reason);
  }
  return "";
}

std::string JoinSome(const std::vector<std::string>& items, size_t shown) {
  const size_t named = items.size() <= shown ? items.size() : shown;
  std::string out;
  for (size_t i = 0; i < named; ++i) {
    const bool last = i + 1 == items.size();
    CatInto(out, i == 0 ? "" : last ? " and " : ", ", items[i]);
  }
  if (named < items.size()) {
    CatInto(out, " and ", items.size() - named, " more");
  }
  return out;
}

}  // namespace consilium
