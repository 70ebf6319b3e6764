#include "client_sdk/app/table_csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace consilium::client::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TableCsvTest, TheLabelMayStandAnywhere) {
  ASSERT_OK_AND_ASSIGN(const LabelledTable table,
                       ParseTable("\xEF\xBB\xBF# from the ward\r\n"
                                  "radius, label ,texture\r\n"
                                  "1.5,0,-2e3\r\n"
                                  "\n"
                                  " 3 , 1 , .25 "));
  EXPECT_THAT(table.columns, ElementsAre("radius", "texture"));
  EXPECT_THAT(table.features, ElementsAre(1.5f, -2e3f, 3.0f, 0.25f));
  EXPECT_THAT(table.labels, ElementsAre(0, 1));
  EXPECT_EQ(table.rows(), 2);
}

TEST(TableCsvTest, MistakesAreNamedWithTheirLine) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"", "no line of names"},
      {"a,b\n1,2", "line 1: no column is called `label`"},
      {"label,a,label\n", "two columns"},
      {"label\n0", "only a label"},
      {"a,label\n", "no rows"},
      {"a,label\n1", "line 2: 1 fields; the first line has 2"},
      {"a,label\n1,0,3", "3 fields"},
      {"a,label\n1,0\nx,0", "line 3: field 1 is \"x\""},
      {"a,label\nnan,0", "finite"},
      {"a,label\n1e99,0", "finite"},
      {"a,label\n1,-1", "label \"-1\""},
      {"a,label\n1,0.5", "label \"0.5\""},
      {"a,label\n,0", "field 1"},
  };
  for (const auto& [text, message] : mistakes) {
    EXPECT_THAT(ParseTable(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr(message)))
        << text;
  }
}

TEST(TableCsvTest, ColumnsComeInTheOrderOfTheModel) {
  ASSERT_OK_AND_ASSIGN(LabelledTable table,
                       ParseTable("c,a,label,b\n3,1,0,2\n6,4,1,5\n"));
  const std::vector<std::string> names = {"a", "b", "c"};
  ASSERT_OK(ArrangeColumns(names, table));
  EXPECT_THAT(table.columns, ElementsAre("a", "b", "c"));
  EXPECT_THAT(table.features, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(table.labels, ElementsAre(0, 1));
}

TEST(TableCsvTest, OtherColumnsThanTheModelsAreNamed) {
  const std::vector<std::string> names = {"a", "b"};
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"a,label\n1,0", "no column is called \"b\""},
      {"a,x,label\n1,2,0", "no column is called \"b\""},
      {"a,b,x,label\n1,2,3,0", "column \"x\" is none"},
      {"a,b,b,label\n1,2,3,0", "two columns are called \"b\""},
  };
  for (const auto& [text, error] : mistakes) {
    ASSERT_OK_AND_ASSIGN(LabelledTable table, ParseTable(text));
    EXPECT_THAT(ArrangeColumns(names, table),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  }
}

}  // namespace
}  // namespace consilium::client::internal
