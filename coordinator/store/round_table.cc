// Rounds, their events, cohort members and metrics.

#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kRoundColumns =
    "id, attempt, state, reason, base_version, candidate_version, config_json, "
    "state_json, planned_at, opened_at, deadline, closed_at, eval_deadline, "
    "finished_at, round_public_key, round_key_state, \"trigger\"";

RoundRow ParseRound(Statement& row) {
  RoundRow out;
  out.id = row.Int(0);
  out.attempt = row.Int(1);
  out.state = row.Text(2);
  out.reason = row.Text(3);
  out.base_version = row.Int(4);
  out.candidate_version = row.OptInt(5);
  out.config_json = row.Text(6);
  out.state_json = row.Text(7);
  out.planned_at = row.Time(8);
  out.opened_at = row.OptTime(9);
  out.deadline = row.OptTime(10);
  out.closed_at = row.OptTime(11);
  out.eval_deadline = row.OptTime(12);
  out.finished_at = row.OptTime(13);
  out.round_public_key = row.Blob(14);
  out.round_key_state = row.Word(15, &ParseRoundKeyState);
  out.trigger = row.Text(16);
  return out;
}

MetricRow ParseMetric(Statement& row) {
  MetricRow out;
  out.id = row.Int(0);
  out.round = row.Int(1);
  out.attempt = row.Int(2);
  out.version = row.OptInt(3);
  out.institution_id = row.OptInt(4);
  out.phase = row.Word(5, &ParseMetricPhase);
  out.name = row.Text(6);
  out.value = row.Real(7);
  out.examples = row.Int(8);
  out.at = row.Time(9);
  return out;
}

}  // namespace

absl::StatusOr<int64_t> InsertRound(WriteTx& tx, const RoundRow& row) {
  std::optional<int64_t> id;
  if (row.id != 0) id = row.id;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO round (id, attempt, state, reason, base_version, "
      "candidate_version, config_json, state_json, planned_at, opened_at, "
      "deadline, closed_at, eval_deadline, finished_at, round_public_key, "
      "round_key_state, \"trigger\") "
      "VALUES (coalesce(?, (SELECT coalesce(max(id), 0) + 1 FROM round)), "
      "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      id, row.attempt, row.state, TextOrNull{row.reason}, row.base_version,
      row.candidate_version, row.config_json, TextOrNull{row.state_json},
      row.planned_at, row.opened_at, row.deadline, row.closed_at,
      row.eval_deadline, row.finished_at, BlobOrNull{row.round_public_key},
      ToString(row.round_key_state), row.trigger));
  return tx.connection().last_insert_id();
}

absl::Status UpdateRound(WriteTx& tx, const RoundRow& row) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE round SET attempt = ?2, state = ?3, reason = ?4, "
      "base_version = ?5, candidate_version = ?6, config_json = ?7, "
      "state_json = ?8, planned_at = ?9, opened_at = ?10, deadline = ?11, "
      "closed_at = ?12, eval_deadline = ?13, finished_at = ?14, "
      "round_public_key = ?15, round_key_state = ?16, \"trigger\" = ?17 "
      "WHERE id = ?1",
      row.id, row.attempt, row.state, TextOrNull{row.reason}, row.base_version,
      row.candidate_version, row.config_json, TextOrNull{row.state_json},
      row.planned_at, row.opened_at, row.deadline, row.closed_at,
      row.eval_deadline, row.finished_at, BlobOrNull{row.round_public_key},
      ToString(row.round_key_state), row.trigger));
  return MustHaveChanged(tx, Cat("round ", row.id));
}

absl::StatusOr<std::optional<RoundRow>> FindRound(ReadTx& tx, int64_t id) {
  static const std::string sql =
      Cat("SELECT ", kRoundColumns, " FROM round WHERE id = ?");
  return FindOne(tx, sql, ParseRound, id);
}

absl::StatusOr<RoundRow> GetRound(ReadTx& tx, int64_t id) {
  return Required(FindRound(tx, id), Cat("round ", id));
}

absl::StatusOr<std::optional<RoundRow>> FindLatestRound(ReadTx& tx) {
  static const std::string sql =
      Cat("SELECT ", kRoundColumns, " FROM round ORDER BY id DESC LIMIT 1");
  return FindOne(tx, sql, ParseRound);
}

absl::StatusOr<std::vector<RoundRow>> ListRounds(ReadTx& tx, const Page& page,
                                                 std::string_view state) {
  CONSILIUM_RETURN_IF_ERROR(CheckPage(page));
  static const std::string up =
      Cat("SELECT ", kRoundColumns,
          " FROM round WHERE id > ?1 AND (?3 = '' OR state = ?3) "
          "ORDER BY id LIMIT ?2");
  static const std::string down =
      Cat("SELECT ", kRoundColumns,
          " FROM round WHERE id < ?1 AND (?3 = '' OR state = ?3) "
          "ORDER BY id DESC LIMIT ?2");
  return Collect(tx, page.descending ? down : up, ParseRound, PageStart(page),
                 page.limit, state);
}

absl::StatusOr<std::vector<RoundRow>> ListOpenRounds(ReadTx& tx) {
  static const std::string sql =
      Cat("SELECT ", kRoundColumns,
          " FROM round WHERE finished_at IS NULL ORDER BY id");
  return Collect(tx, sql, ParseRound);
}

absl::Status SetRoundKeyState(WriteTx& tx, int64_t round, RoundKeyState state) {
  CONSILIUM_RETURN_IF_ERROR(
      tx.connection().Run("UPDATE round SET round_key_state = ? WHERE id = ?",
                          ToString(state), round));
  return MustHaveChanged(tx, Cat("round ", round));
}

absl::StatusOr<int64_t> AppendRoundEvent(WriteTx& tx,
                                         const RoundEventRow& row) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO round_event (round, attempt, at, kind, institution, detail) "
      "VALUES (?, ?, ?, ?, ?, ?)",
      row.round, row.attempt, row.at, row.kind, TextOrNull{row.institution},
      row.detail));
  return tx.connection().last_insert_id();
}

absl::StatusOr<std::vector<RoundEventRow>> ListRoundEvents(
    ReadTx& tx, std::optional<int64_t> round, const Page& page) {
  CONSILIUM_RETURN_IF_ERROR(CheckPage(page));
  const auto parse = [](Statement& row) {
    RoundEventRow out;
    out.id = row.Int(0);
    out.round = row.Int(1);
    out.attempt = row.Int(2);
    out.at = row.Time(3);
    out.kind = row.Text(4);
    out.institution = row.Text(5);
    out.detail = row.Text(6);
    return out;
  };
  // Four statements rather than one with an OR, so that each uses an index.
  const auto sql = [](std::string_view filter, std::string_view order) {
    return Cat(
        "SELECT id, round, attempt, at, kind, institution, detail "
        "FROM round_event WHERE ",
        filter, order, " LIMIT ?2");
  };
  static const std::string all_up = sql("id > ?1", " ORDER BY id");
  static const std::string all_down = sql("id < ?1", " ORDER BY id DESC");
  static const std::string one_up =
      sql("round = ?3 AND id > ?1", " ORDER BY id");
  static const std::string one_down =
      sql("round = ?3 AND id < ?1", " ORDER BY id DESC");
  if (!round.has_value()) {
    return Collect(tx, page.descending ? all_down : all_up, parse,
                   PageStart(page), page.limit);
  }
  return Collect(tx, page.descending ? one_down : one_up, parse,
                 PageStart(page), page.limit, *round);
}

absl::Status UpsertCohortMember(WriteTx& tx, const CohortMemberRow& row) {
  return tx.connection().Run(
      "INSERT INTO cohort_member (round, attempt, institution_id, state, "
      "reason, progress, progress_text, updated_at) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT (round, attempt, institution_id) DO UPDATE SET "
      "state = excluded.state, reason = excluded.reason, "
      "progress = excluded.progress, progress_text = excluded.progress_text, "
      "updated_at = excluded.updated_at",
      row.round, row.attempt, row.institution_id, row.state,
      TextOrNull{row.reason}, row.progress, TextOrNull{row.progress_text},
      row.updated_at);
}

absl::StatusOr<std::vector<CohortMemberRow>> ListCohort(ReadTx& tx,
                                                        int64_t round,
                                                        int64_t attempt) {
  return Collect(
      tx,
      "SELECT round, attempt, institution_id, state, reason, progress, "
      "progress_text, updated_at FROM cohort_member "
      "WHERE round = ? AND attempt = ? ORDER BY institution_id",
      [](Statement& row) {
        CohortMemberRow out;
        out.round = row.Int(0);
        out.attempt = row.Int(1);
        out.institution_id = row.Int(2);
        out.state = row.Text(3);
        out.reason = row.Text(4);
        out.progress = row.OptReal(5);
        out.progress_text = row.Text(6);
        out.updated_at = row.Time(7);
        return out;
      },
      round, attempt);
}

absl::StatusOr<std::map<int64_t, int64_t>> LastInvitations(ReadTx& tx) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto rows,
      Collect(
          tx,
          "SELECT id, (SELECT max(round) FROM cohort_member"
          " WHERE institution_id = i.id) AS last "
          "FROM institution i WHERE last IS NOT NULL",
          [](Statement& row) { return std::pair(row.Int(0), row.Int(1)); }));
  return std::map<int64_t, int64_t>(rows.begin(), rows.end());
}

absl::StatusOr<int64_t> InsertMetric(WriteTx& tx, const MetricRow& row) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO metric (round, attempt, version, institution_id, phase, "
      "name, value, examples, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      row.round, row.attempt, row.version, row.institution_id,
      ToString(row.phase), row.name, row.value, row.examples, row.at));
  return tx.connection().last_insert_id();
}

absl::StatusOr<std::vector<MetricRow>> ListMetrics(
    ReadTx& tx, int64_t round, std::optional<MetricPhase> phase) {
  return Collect(
      tx,
      "SELECT id, round, attempt, version, institution_id, phase, name, value, "
      "examples, at FROM metric WHERE round = ?1 AND (?2 = '' OR phase = ?2) "
      "ORDER BY id",
      ParseMetric, round,
      phase.has_value() ? ToString(*phase) : std::string_view());
}

absl::StatusOr<std::vector<WeightedMetric>> WeightedMeans(
    ReadTx& tx, int64_t round, int64_t attempt, MetricPhase phase,
    std::optional<int64_t> version) {
  std::vector<WeightedMetric> out;
  // The highest id per institution and name: SQLite's rule for a bare column
  // beside max() gives the values of that very row.
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      "SELECT name, value, examples, max(id) FROM metric "
      "WHERE round = ?1 AND attempt = ?2 AND phase = ?3 AND "
      "institution_id IS NOT NULL AND (?4 IS NULL OR version = ?4) "
      "GROUP BY name, institution_id ORDER BY name, institution_id",
      [&out](Statement& row) {
        const std::string name = row.Text(0);
        const int64_t examples = row.Int(2);
        if (examples == 0) return;
        if (out.empty() || out.back().name != name) out.push_back({name});
        WeightedMetric& metric = out.back();
        metric.mean += row.Real(1) * static_cast<double>(examples);
        metric.examples += examples;
        ++metric.institutions;
      },
      round, attempt, ToString(phase), version));
  for (WeightedMetric& metric : out) {
    metric.mean /= static_cast<double>(metric.examples);
  }
  return out;
}

}  // namespace consilium
