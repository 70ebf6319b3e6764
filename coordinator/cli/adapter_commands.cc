// adapter import|export: between the directories of Hugging Face PEFT and the
// files of `version import` and `version export`. Needs no coordinator.

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <span>

#include "consilium/aggregation/peft.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/json.h"
#include "coordinator/cli/output.h"

namespace consilium {
namespace {

constexpr int64_t kMaxRulesBytes = int64_t{1} << 20;
constexpr std::string_view kConfigFile = "adapter_config.json";
constexpr std::string_view kModelFile = "adapter_model.safetensors";

struct ImportArgs {
  std::string directory;
  std::string rules;
  std::string output;
};

struct ExportArgs {
  std::string version;
  std::string like;
  std::string output;
};

// A family's name, or a file.
absl::StatusOr<GroupRules> LoadRules(FileSystem* fs, const std::string& name) {
  const std::vector<std::string_view> families = GroupRules::BuiltInFamilies();
  if (std::find(families.begin(), families.end(), name) != families.end()) {
    return GroupRules::BuiltIn(name);
  }
  if (!fs->Exists(name)) {
    std::string all;
    for (const std::string_view family : families) {
      CatInto(all, all.empty() ? "" : ", ", family);
    }
    return absl::NotFoundError(
        Cat("--rules ", Quoted(name), " is no file, and none of ", all));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs, name, kMaxRulesBytes));
  auto rules = GroupRules::Parse(text);
  if (!rules.ok()) return Annotate(rules.status(), name);
  return rules;
}

absl::Status CheckNew(FileSystem* fs, const std::string& path) {
  if (!fs->Exists(path)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      Cat(path, " is there already; move it away, or name another --output"));
}

// Written beside it first, so that what stands under the name is whole.
absl::StatusOr<WrittenVersion> WriteVersion(FileSystem* fs,
                                            const peft::Directory& adapter,
                                            const Layout& layout,
                                            const std::string& path) {
  const std::string part = Cat(path, ".part");
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      fs->Open(part, {.write = true, .create = true, .truncate = true}));
  std::vector<float> values;
  auto written = WriteVersionFile(
      layout, layout.ComputeId(Sha256HasherFactory()),
      [&](const TensorSlot& slot) -> absl::StatusOr<std::span<const float>> {
        CONSILIUM_ASSIGN_OR_RETURN(values, adapter.Values(slot.name));
        return std::span<const float>(values);
      },
      Sha256HasherFactory(), file.get());
  absl::Status status = written.status();
  if (status.ok()) status = file->Sync();
  if (status.ok()) status = fs->Rename(part, path);
  if (!status.ok()) {
    fs->Remove(part).IgnoreError();
    return status;
  }
  return written;
}

// "r 4 (18 matrices), r 8 (2 matrices)".
std::string RanksOf(const peft::Adapter& adapter) {
  std::map<int64_t, int64_t> ranks;
  for (const peft::Target& target : adapter.targets) ++ranks[target.rank];
  std::string text;
  for (const auto& [rank, count] : ranks) {
    CatInto(text, text.empty() ? "" : ", ", "r ", rank, " (", count,
            count == 1 ? " matrix)" : " matrices)");
  }
  return text;
}

absl::Status Import(Cli& cli, const ImportArgs& args) {
  FileSystem* const fs = cli.env().fs;
  const std::string version = Cat(args.output, ".safetensors");
  const std::string layout_path = Cat(args.output, ".layout");
  for (const std::string& path : {version, layout_path}) {
    CONSILIUM_RETURN_IF_ERROR(CheckNew(fs, path));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const GroupRules rules, LoadRules(fs, args.rules));
  CONSILIUM_ASSIGN_OR_RETURN(const peft::Directory adapter,
                             peft::Directory::Open(args.directory));
  CONSILIUM_ASSIGN_OR_RETURN(const Layout layout, adapter.MakeLayout(rules));
  CONSILIUM_ASSIGN_OR_RETURN(const WrittenVersion written,
                             WriteVersion(fs, adapter, layout, version));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, layout_path, AsBytes(layout.CanonicalText()), 0644));
  uint64_t experts = 0, routers = 0;
  for (const GroupName& group : layout.groups()) {
    experts += group.kind == GroupKind::kExpert ? 1 : 0;
    routers += group.kind == GroupKind::kRouter ? 1 : 0;
  }
  const auto bytes = static_cast<uint64_t>(written.info.file_bytes);
  if (cli.json()) {
    cli.PrintJson(JsonObject()
                      .Text("version", version)
                      .Text("layout", layout_path)
                      .Text("digest", written.digest.Hex())
                      .Number("bytes", bytes)
                      .Number("matrices", adapter.adapter().targets.size())
                      .Number("whole_tensors", adapter.adapter().whole.size())
                      .Number("experts", experts)
                      .Number("routers", routers)
                      .ToString());
    return absl::OkStatus();
  }
  Fields()
      .Add("matrices", RanksOf(adapter.adapter()))
      .Add("whole tensors", Cat(adapter.adapter().whole.size()))
      .Add("release groups", Cat(layout.groups().size(), ": ", experts,
                                 " experts, ", routers, " routers"))
      .Add("version", Cat(version, ", ", FormatBytes(bytes)))
      .Add("layout", layout_path)
      .Add("digest", written.digest.Hex())
      .Print(cli.out(), cli.style());
  cli.out() << "\nNext:\n  consilium version import " << version << " --layout "
            << layout_path << "\n";
  return absl::OkStatus();
}

absl::Status Export(Cli& cli, const ExportArgs& args) {
  FileSystem* const fs = cli.env().fs;
  const std::string model = JoinPath(args.output, kModelFile);
  const std::string config = JoinPath(args.output, kConfigFile);
  for (const std::string& path : {model, config}) {
    CONSILIUM_RETURN_IF_ERROR(CheckNew(fs, path));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const peft::Directory like,
                             peft::Directory::Open(args.like));
  CONSILIUM_ASSIGN_OR_RETURN(const MappedFile mapping,
                             MappedFile::Open(args.version));
  const auto version = SafetensorsView::Parse(mapping.bytes());
  if (!version.ok()) return Annotate(version.status(), args.version);
  const auto written = like.Write(
      [&](const std::string& slot) { return version->Floats(slot); });
  if (!written.ok()) return Annotate(written.status(), args.version);
  CONSILIUM_ASSIGN_OR_RETURN(const std::string json,
                             ReadWholeFile(fs, JoinPath(args.like, kConfigFile),
                                           peft::kMaxConfigBytes));
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(args.output, 0755));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, model, AsBytes(*written), 0644));
  CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(fs, config, AsBytes(json), 0644));
  if (cli.json()) {
    cli.PrintJson(JsonObject()
                      .Text("directory", args.output)
                      .Number("bytes", written->size())
                      .Number("matrices", like.adapter().targets.size())
                      .ToString());
    return absl::OkStatus();
  }
  cli.out() << "wrote " << config << " and " << model << " ("
            << FormatBytes(written->size()) << ")\n";
  return absl::OkStatus();
}

}  // namespace

void AddAdapterCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group(
      "adapter", "Adapters of Hugging Face PEFT, without a coordinator");
  const auto import = std::make_shared<ImportArgs>();
  group
      .Verb("import", "Make a version file and its layout from an adapter",
            "consilium adapter import ./adapter --rules deepseek --output base")
      .Argument("DIR", &import->directory,
                "with adapter_config.json and adapter_model.safetensors")
      .Option("--rules", &import->rules, "FAMILY|FILE",
              "which tensors are experts and routers: bert, deepseek, gpt_oss, "
              "llama, mixtral, olmoe, qwen_moe, or a TOML file")
      .Required()
      .Option(
          "--output", &import->output, "PATH",
          "without its ending: PATH.safetensors and PATH.layout are written")
      .Required()
      .Action(cli, [&cli, import] { return Import(cli, *import); });
  const auto out = std::make_shared<ExportArgs>();
  group
      .Verb("export", "Make an adapter of a version, as PEFT reads it",
            "consilium adapter export v12.safetensors --like ./adapter "
            "--output ./adapter-12")
      .Argument("VERSION", &out->version, "file from `version export`")
      .Option("--like", &out->like, "DIR",
              "the adapter that the federation began with")
      .Required()
      .Option("--output", &out->output, "DIR", "a new directory")
      .Required()
      .Action(cli, [&cli, out] { return Export(cli, *out); });
}

}  // namespace consilium
