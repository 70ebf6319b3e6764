#include "coordinator/round/round_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "consilium/base/strings.h"

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

size_t Utf8SequenceLength(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint32_t code = 0;
  uint32_t least = 0;
  if ((lead & 0xE0) == 0xC0) {
    length = 2, code = lead & 0x1F, least = 0x80;
  } else if ((lead & 0xF0) == 0xE0) {
    length = 3, code = lead & 0x0F, least = 0x800;
  } else if ((lead & 0xF8) == 0xF0) {
    length = 4, code = lead & 0x07, least = 0x10000;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (at(i) & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < least || code > 0x10FFFF || surrogate ? 0 : length;
}

std::string CleanText(std::string_view text, size_t max_bytes) {
  std::string out;
  out.reserve(std::min(text.size(), max_bytes));
  while (!text.empty()) {
    const size_t length = Utf8SequenceLength(text);
    const size_t step = std::max<size_t>(length, 1);
    if (out.size() + step > max_bytes) break;
    const auto lead = static_cast<uint8_t>(text[0]);
    const bool c1 =
        length == 2 && lead == 0xC2 && static_cast<uint8_t>(text[1]) < 0xA0;
    if (length == 0) {
      out.push_back('?');
    } else if (lead < 0x20 || lead == 0x7F || c1) {
      out.push_back(' ');
    } else {
      out.append(text.substr(0, length));
    }
    text.remove_prefix(step);
  }
  return out;
}

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
