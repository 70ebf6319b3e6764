// round watch: redrawn on a terminal, a line for each change elsewhere, JSON
// lines with --json.

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "consilium/base/strings.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/json.h"
#include "coordinator/round/round_text.h"

namespace consilium {
namespace {

constexpr int kBarWidth = 20;
constexpr double kProgressStep = 0.1;  // that makes a line of its own
constexpr size_t kMaxText = 400;
constexpr absl::Duration kFirstPause = absl::Milliseconds(200);

std::string Bar(double fraction) {
  if (fraction < 0) return "";
  const int full = static_cast<int>(std::lround(fraction * kBarWidth));
  return Cat("[", std::string(static_cast<size_t>(full), '#'),
             std::string(static_cast<size_t>(kBarWidth - full), '.'), "] ",
             static_cast<int>(std::lround(fraction * 100)), " %");
}

std::string Note(const v1::MemberInfo& m) {
  std::string out = m.reason().empty() ? m.progress_text() : m.reason();
  if (m.state() == "uploading" && m.payload_bytes() > 0) {
    out = Cat(FormatBytes(m.uploaded_bytes()), " of ",
              FormatBytes(m.payload_bytes()));
  }
  if (m.evaluated()) out = "evaluated";
  return out;
}

class Watcher {
 public:
  explicit Watcher(Cli& cli) : cli_(cli) {}

  void Changed(const v1::RoundInfo& round, bool last) {
    if (cli_.json()) {
      cli_.out() << JsonObject()
                        .Text("event", "round")
                        .Bool("terminal", last)
                        .Raw("round", MessageToJson(round))
                        .ToString()
                 << "\n";
    } else if (cli_.env().terminal) {
      Redraw(round);
    } else {
      PrintChanges(round);
    }
    cli_.out().flush();
  }

  void Lost(const absl::Status& status) {
    const std::string why = CleanText(StdView(status.message()), kMaxText);
    if (cli_.json()) {
      cli_.out() << JsonObject()
                        .Text("event", "reconnecting")
                        .Bool("terminal", false)
                        .Text("reason", why)
                        .ToString()
                 << "\n";
    } else {
      Line({}) << "connection lost, trying again: " << why << "\n";
      drawn_ = 0;  // what was drawn stays above this line
    }
    cli_.out().flush();
  }

 private:
  void Redraw(const v1::RoundInfo& round) {
    const Style style = cli_.style();
    std::vector<std::string> lines;
    if (round.round() == 0) {
      lines.push_back(round.waiting_for());
    } else {
      lines.push_back(Cat(Bold(style, Cat("Round ", round.round())), "  ",
                          PaintState(style, round.phase()), "  base ",
                          round.base().number(), "  ", round.contributions(),
                          " contributions, ",
                          FormatBytes(round.contributed_bytes()),
                          round.sealed() ? "" : ", NOT sealed"));
      const std::string& why =
          round.terminal() ? round.reason() : round.waiting_for();
      if (!why.empty()) lines.push_back(CleanText(why, kMaxText));
      Table table({{"INSTITUTION"},
                   {"STATE", Align::kState},
                   {"CONNECTED"},
                   {"PROGRESS"},
                   {"UPDATED"},
                   {"NOTE"}});
      for (const v1::MemberInfo& m : round.members()) {
        table.Row({m.institution(), m.state(), m.connected() ? "yes" : "no",
                   Bar(m.progress()), style.Age(m.updated_at()), Note(m)});
      }
      for (std::string& line : table.Lines(style)) {
        lines.push_back(std::move(line));
      }
      const std::string metrics = FormatMetrics(round.metrics(), "evaluate.");
      if (!metrics.empty()) lines.push_back(Cat("evaluation: ", metrics));
    }
    // A new round leaves the last picture of the one before.
    if (drawn_ > 0 && round.round() == drawn_round_) {
      cli_.out() << "\x1b[" << drawn_ << "A\x1b[J";
    }
    for (const std::string& line : lines) {
      cli_.out() << CutToWidth(line, style.width) << "\n";
    }
    drawn_ = lines.size();
    drawn_round_ = round.round();
  }

  std::ostream& Line(const v1::RoundInfo& round) {
    const Style style = cli_.style();
    cli_.out() << absl::FormatTime("%H:%M:%S", style.now, style.zone);
    if (round.round() > 0) cli_.out() << " round " << round.round();
    return cli_.out() << " ";
  }

  void PrintChanges(const v1::RoundInfo& round) {
    bool changed = false;
    if (!seen_ || round.round() != before_.round()) before_.Clear();
    std::map<std::string, const v1::MemberInfo*> old;
    for (const v1::MemberInfo& m : before_.members()) old[m.institution()] = &m;
    v1::RoundInfo printed = round;
    for (v1::MemberInfo& m : *printed.mutable_members()) {
      const auto found = old.find(m.institution());
      const v1::MemberInfo* const was =
          found == old.end() ? nullptr : found->second;
      if (was != nullptr && was->state() == m.state() &&
          was->reason() == m.reason() && was->evaluated() == m.evaluated() &&
          std::fabs(was->progress() - m.progress()) < kProgressStep) {
        // Progress counts from the last line, or small steps never add up.
        m.set_progress(was->progress());
        continue;
      }
      changed = true;
      std::ostream& out = Line(round) << m.institution() << ": " << m.state();
      if (m.progress() >= 0) {
        out << " " << std::lround(m.progress() * 100) << " %";
      }
      const std::string note = CleanText(Note(m), kMaxText);
      if (!note.empty()) out << " (" << note << ")";
      out << "\n";
    }
    if (changed || !seen_ || round.phase() != before_.phase()) {
      Line(round) << round.phase();
      const std::string& why =
          round.terminal() ? round.reason() : round.waiting_for();
      if (!why.empty()) cli_.out() << ": " << CleanText(why, kMaxText);
      const std::string metrics = FormatMetrics(round.metrics(), "evaluate.");
      if (round.terminal() && !metrics.empty()) {
        cli_.out() << "; " << metrics;
      }
      cli_.out() << "\n";
    }
    before_ = std::move(printed);
    seen_ = true;
  }

  Cli& cli_;
  size_t drawn_ = 0;
  uint64_t drawn_round_ = 0;
  bool seen_ = false;
  v1::RoundInfo before_;
};

// A coordinator that restarts, or a network that breaks, is no end: the next
// stream begins with a snapshot. An error before the first one is.
absl::Status Follow(Cli& cli, AdminApi& api,
                    const v1::WatchRoundRequest& request, Watcher& watcher,
                    absl::FunctionRef<bool(const v1::RoundInfo&)> on_change) {
  bool connected_once = false;
  bool told = false;
  absl::Duration pause = kFirstPause;
  for (;;) {
    bool enough = false;
    const absl::Status status =
        api.WatchRound(request, [&](const v1::RoundInfo& info) {
          connected_once = true;
          told = false;
          pause = kFirstPause;
          enough = !on_change(info);
          return !enough;
        });
    if (enough || !connected_once || !absl::IsUnavailable(status)) {
      return status;
    }
    if (!told) watcher.Lost(status);
    told = true;
    CONSILIUM_RETURN_IF_ERROR(cli.env().sleeper->Sleep(pause, {}));
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace

absl::Status WatchRound(Cli& cli, uint64_t round, bool follow) {
  cli.json_lines = cli.json();
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  AdminApi& api = *session->api;
  Watcher watcher(cli);
  v1::WatchRoundRequest request;
  if (follow) {
    return Follow(cli, api, request, watcher, [&](const v1::RoundInfo& info) {
      watcher.Changed(info, /*last=*/false);
      return true;
    });
  }
  if (round == 0) {
    // The live round; without one, the next that begins, which may have ended
    // before this side hears of it.
    std::optional<uint64_t> newest;
    CONSILIUM_RETURN_IF_ERROR(
        Follow(cli, api, request, watcher, [&](const v1::RoundInfo& info) {
          if (!newest.has_value()) newest = info.round();
          if (info.round() > *newest ||
              (info.round() > 0 && !info.terminal())) {
            round = info.round();
            return false;
          }
          v1::RoundInfo none;
          none.set_phase("none");
          none.set_waiting_for("waiting for the next round");
          watcher.Changed(none, /*last=*/false);
          return true;
        }));
    if (round == 0) {
      return ConnectionError(
          absl::UnavailableError("the coordinator ended the stream"));
    }
  }
  request.set_round(round);
  std::string ended;
  CONSILIUM_RETURN_IF_ERROR(
      Follow(cli, api, request, watcher, [&](const v1::RoundInfo& info) {
        watcher.Changed(info, info.terminal());
        if (info.terminal()) ended = info.phase();
        return !info.terminal();
      }));
  if (ended.empty()) {
    return ConnectionError(absl::UnavailableError(
        Cat("the coordinator ended the stream before round ", round, " did")));
  }
  if (ended != "promoted") cli.AnswerIsBad();
  return absl::OkStatus();
}

}  // namespace consilium
