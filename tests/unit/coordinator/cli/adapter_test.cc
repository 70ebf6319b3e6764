// adapter import and export, on adapters that PEFT itself wrote.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/peft.h"
#include "consilium/base/bytes.h"
#include "coordinator/cli/exit_codes.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/cli/cli_harness.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AdapterCliTest : public CliTest,
                       public testing::WithParamInterface<std::string> {
 protected:
  static std::string Site(const std::string& architecture, int site) {
    return Cat(CONSILIUM_PEFT_DATA, "/", architecture, "/site-", site);
  }
  std::string Text(const std::string& path) {
    const auto text = ReadWholeFile(PosixFileSystem(), path, int64_t{1} << 24);
    EXPECT_OK(text.status());
    return text.value_or("");
  }
  std::string base() const { return dir_ / "base"; }

  TempDir dir_;
};

TEST_F(AdapterCliTest, AnAdapterBecomesAVersionAndALayout) {
  ASSERT_EQ(Run({"adapter", "import", Site("deepseek_v3", 0), "--rules",
                 "deepseek", "--output", base(), "--json"}),
            0)
      << err();
  EXPECT_EQ(Json()["experts"], 16);
  EXPECT_EQ(Json()["matrices"], 12 + 2 * 2 * 8);
  const std::string text = Text(Cat(base(), ".layout"));
  EXPECT_THAT(
      text,
      AllOf(
          HasSubstr("expert/1/3 F32 4x32 "
                    "model.layers.1.mlp.experts.3.gate_up_proj.lora_A.weight\n"
                    "expert/1/3 F32 48x4 "
                    "model.layers.1.mlp.experts.3.gate_up_proj.lora_B.weight"),
          HasSubstr("shared F32 4x16 "
                    "model.layers.0.self_attn.kv_b_proj.lora_A.weight")));
  ASSERT_OK(Layout::Parse(text).status());
  // As `version import` sends it.
  fake_.Answer<v1::VersionInfo>("ImportVersion");
  EXPECT_EQ(Run({"version", "import", Cat(base(), ".safetensors"), "--layout",
                 Cat(base(), ".layout"), "--yes"}),
            0)
      << err();
}

TEST_P(AdapterCliTest, ThereAndBackItIsTheSame) {
  const std::string& architecture = GetParam();
  const std::string family =
      architecture == "deepseek_v3" ? "deepseek" : architecture;
  const std::string site = Site(architecture, 0);
  const std::string again = dir_ / "again";
  ASSERT_EQ(
      Run({"adapter", "import", site, "--rules", family, "--output", base()}),
      0)
      << err();
  EXPECT_THAT(out(), HasSubstr("consilium version import"));
  ASSERT_EQ(Run({"adapter", "export", Cat(base(), ".safetensors"), "--like",
                 site, "--output", again}),
            0)
      << err();
  EXPECT_EQ(Text(again + "/adapter_config.json"),
            Text(site + "/adapter_config.json"));
  const std::string was = Text(site + "/adapter_model.safetensors");
  const std::string is = Text(again + "/adapter_model.safetensors");
  ASSERT_OK_AND_ASSIGN(const auto before, SafetensorsView::Parse(AsBytes(was)));
  ASSERT_OK_AND_ASSIGN(const auto after, SafetensorsView::Parse(AsBytes(is)));
  ASSERT_EQ(after.header().tensors.size(), before.header().tensors.size());
  for (const TensorInfo& tensor : before.header().tensors) {
    EXPECT_EQ(AsChars(after.Bytes(tensor.name).value()),
              AsChars(before.Bytes(tensor.name).value()))
        << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Architecture, AdapterCliTest,
                         testing::Values("bert", "deepseek_v3", "gpt_oss",
                                         "mixtral"),
                         [](const auto& param) { return param.param; });

TEST_F(AdapterCliTest, SitesOfOneFederationHaveOneLayout) {
  for (const int site : {0, 1, 2}) {
    ASSERT_EQ(Run({"adapter", "import", Site("mixtral", site), "--rules",
                   "mixtral", "--output", Cat(base(), site)}),
              0);
  }
  EXPECT_EQ(Text(Cat(base(), 1, ".layout")), Text(Cat(base(), 0, ".layout")));
  EXPECT_EQ(Text(Cat(base(), 2, ".layout")), Text(Cat(base(), 0, ".layout")));
}

TEST_F(AdapterCliTest, MistakesSayWhatToDo) {
  const std::string site = Site("mixtral", 0);
  const auto import = [&](const std::string& rules) {
    return Run(
        {"adapter", "import", site, "--rules", rules, "--output", base()});
  };
  EXPECT_EQ(import("gpt2"), kExitFailed.code);
  EXPECT_THAT(err(), HasSubstr("is no file, and none of bert, deepseek"));
  EXPECT_EQ(import("bert"), kExitFailed.code);
  EXPECT_THAT(err(), HasSubstr("no rule matches tensor \"model.layers.0."));
  EXPECT_FALSE(PosixFileSystem()->Exists(Cat(base(), ".safetensors")));

  const std::string own = dir_ / "rules.toml";
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), own,
                            AsBytes("[groups]\n\"**\" = \"shared\"\n"), 0600));
  EXPECT_EQ(import(own), 0) << err();
  EXPECT_EQ(import(own), kExitFailed.code);
  EXPECT_THAT(err(), HasSubstr("is there already"));

  EXPECT_EQ(Run({"adapter", "export", Cat(base(), ".safetensors"), "--like",
                 Site("bert", 0), "--output", dir_ / "other"}),
            kExitFailed.code);
  EXPECT_THAT(err(), HasSubstr("encoder.layer.0"));
  EXPECT_FALSE(PosixFileSystem()->Exists(dir_ / "other"));
  EXPECT_EQ(Run({"adapter", "import", dir_ / "nothing", "--rules", "bert",
                 "--output", Cat(base(), "-2")}),
            kExitFailed.code);
  EXPECT_THAT(err(), HasSubstr("adapter_config.json"));
}

}  // namespace
}  // namespace consilium
