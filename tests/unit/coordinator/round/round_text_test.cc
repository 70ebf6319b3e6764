#include "coordinator/round/round_text.h"

#include <gtest/gtest.h>

#include <string>

namespace consilium {
namespace {

TEST(CleanTextTest, KeepsTextAndDefusesTheRest) {
  EXPECT_EQ(CleanText("out of memory", 100), "out of memory");
  EXPECT_EQ(CleanText("a\nb\tc\x1b[31m\x7f", 100), "a b c [31m ");
  EXPECT_EQ(CleanText(std::string("a\0b", 3), 100), "a b");
  EXPECT_EQ(CleanText("Universit\xc3\xa4t \xe2\x82\xac", 100),
            "Universit\xc3\xa4t \xe2\x82\xac");
  EXPECT_EQ(CleanText("\xc2\x85x", 100), " x");  // C1 control
}

TEST(CleanTextTest, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(CleanText("\xff\xfe", 100), "??");
  EXPECT_EQ(CleanText("\xc3", 100), "?");                 // cut short
  EXPECT_EQ(CleanText("\xc0\xaf", 100), "??");            // overlong
  EXPECT_EQ(CleanText("\xed\xa0\x80", 100), "???");       // surrogate
  EXPECT_EQ(CleanText("\xf4\x90\x80\x80", 100), "????");  // past the last one
}

TEST(CleanTextTest, CutsAtTheBorderOfACharacter) {
  EXPECT_EQ(CleanText("ab\xc3\xa4", 3), "ab");
  EXPECT_EQ(CleanText("ab\xc3\xa4", 4), "ab\xc3\xa4");
  EXPECT_EQ(CleanText(std::string(10000, 'x'), 512).size(), 512u);
  EXPECT_EQ(CleanText("abc", 0), "");
}

TEST(JoinSomeTest, ReadsLikeASentence) {
  EXPECT_EQ(JoinSome({}), "");
  EXPECT_EQ(JoinSome({"a"}), "a");
  EXPECT_EQ(JoinSome({"a", "b"}), "a and b");
  EXPECT_EQ(JoinSome({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(JoinSome({"a", "b", "c", "d"}, 2), "a, b and 2 more");
}

TEST(DescribeMemberTest, SaysWhatAMemberDoes) {
  RoundMember m;
  EXPECT_EQ(DescribeMember(m), "not heard from");
  m.state = MemberState::kTraining;
  EXPECT_EQ(DescribeMember(m), "training");
  m.progress = 0.999;
  m.progress_text = "epoch 3";
  EXPECT_EQ(DescribeMember(m), "training 99 % (epoch 3)");
  m.state = MemberState::kUploading;
  EXPECT_EQ(DescribeMember(m), "uploading 99 %");
  m.interrupted = true;
  m.progress.reset();
  EXPECT_EQ(DescribeMember(m), "upload interrupted");
  m.state = MemberState::kFailed;
  m.reason = "norm";
  EXPECT_EQ(DescribeMember(m), "failed (norm)");
  m.quarantined = true;
  EXPECT_EQ(DescribeMember(m), "quarantined (norm)");
}

}  // namespace
}  // namespace consilium
