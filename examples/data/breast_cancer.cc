#include "examples/data/breast_cancer.h"

#include <charconv>
#include <cstddef>
#include <utility>

#include "consilium/base/split_mix.h"
#include "consilium/base/status_macros.h"

namespace consilium {
namespace {

constexpr std::string_view kCsv =
#include "breast_cancer.inc"
    ;

std::string_view TakeUntil(char end, std::string_view& rest) {
  const size_t at = rest.find(end);
  const std::string_view head = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return head;
}

// The text is part of this program, so a mistake in it is one of ours.
TableSlice ParseTable(std::string_view csv) {
  TableSlice table;
  std::string_view header = TakeUntil('\n', csv);
  while (!header.empty()) {
    table.column_names.emplace_back(TakeUntil(',', header));
  }
  table.column_names.pop_back();  // the label's
  while (!csv.empty()) {
    std::string_view line = TakeUntil('\n', csv);
    for (int64_t column = 0; column <= table.columns(); ++column) {
      const std::string_view cell = TakeUntil(',', line);
      float value = 0;
      const auto parsed =
          std::from_chars(cell.data(), cell.data() + cell.size(), value);
      CONSILIUM_CHECK(parsed.ec == std::errc());
      if (column < table.columns()) {
        table.features.push_back(value);
      } else {
        table.labels.push_back(static_cast<int32_t>(value));
      }
    }
  }
  return table;
}

TableSlice Rows(std::span<const size_t> rows) {
  const TableSlice& table = BreastCancerTable();
  TableSlice slice;
  slice.column_names = table.column_names;
  const size_t columns = table.column_names.size();
  for (const size_t row : rows) {
    const auto begin =
        table.features.begin() + static_cast<ptrdiff_t>(row * columns);
    slice.features.insert(slice.features.end(), begin,
                          begin + static_cast<ptrdiff_t>(columns));
    slice.labels.push_back(table.labels[row]);
  }
  return slice;
}

// Deals out the rows of each label in shuffled order.
class Dealer {
 public:
  explicit Dealer(uint64_t seed) : random_(seed) {
    const TableSlice& table = BreastCancerTable();
    for (size_t row = 0; row < table.labels.size(); ++row) {
      left_[table.labels[row] == 1 ? 1 : 0].push_back(row);
    }
    for (auto& rows : left_) Shuffle(random_, std::span(rows));
  }

  TableSlice Deal(size_t malignant, size_t benign) {
    std::vector<size_t> rows;
    const size_t wanted[] = {benign, malignant};
    for (size_t label = 0; label < 2; ++label) {
      CONSILIUM_CHECK(left_[label].size() >= wanted[label]);
      rows.insert(rows.end(),
                  left_[label].end() - static_cast<ptrdiff_t>(wanted[label]),
                  left_[label].end());
      left_[label].resize(left_[label].size() - wanted[label]);
    }
    Shuffle(random_, std::span(rows));
    return Rows(rows);
  }

  bool empty() const { return left_[0].empty() && left_[1].empty(); }

 private:
  SplitMixRandom random_;
  std::vector<size_t> left_[2];  // by label
};

}  // namespace

const TableSlice& BreastCancerTable() {
  static const TableSlice* const table = new TableSlice(ParseTable(kCsv));
  return *table;
}

BreastCancerFederation SplitBreastCancer(uint64_t seed) {
  struct Mix {
    std::string_view name;
    size_t malignant, benign;
  };
  constexpr Mix kHospitals[] = {
      {"hospital-a", 104, 6}, {"hospital-b", 10, 219}, {"hospital-c", 25, 11}};
  Dealer dealer(seed);
  BreastCancerFederation federation;
  federation.public_slice = dealer.Deal(26, 43);
  federation.test = dealer.Deal(47, 78);
  for (const Mix& mix : kHospitals) {
    const size_t malignant = (mix.malignant + 4) / 5;
    const size_t benign = (mix.benign + 4) / 5;
    TableSlice validation = dealer.Deal(malignant, benign);
    TableSlice train =
        dealer.Deal(mix.malignant - malignant, mix.benign - benign);
    federation.hospitals.push_back(
        {std::string(mix.name), std::move(train), std::move(validation)});
  }
  CONSILIUM_CHECK(dealer.empty());
  return federation;
}

TableSlice JoinSlices(std::span<const TableSlice* const> slices) {
  TableSlice joined;
  for (const TableSlice* slice : slices) {
    joined.column_names = slice->column_names;
    joined.features.insert(joined.features.end(), slice->features.begin(),
                           slice->features.end());
    joined.labels.insert(joined.labels.end(), slice->labels.begin(),
                         slice->labels.end());
  }
  return joined;
}

}  // namespace consilium
