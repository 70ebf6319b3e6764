// `consilium completion bash|zsh|fish`: scripts that know the tree of commands
// as it is in this binary.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

// One command with what may follow it.
struct Node {
  std::string path;  // "round watch"; "" for the root
  std::vector<std::pair<std::string, std::string>> verbs;    // name, help
  std::vector<std::pair<std::string, std::string>> options;  // --name, help
};

void Collect(const CLI::App& app, const std::string& path,
             std::vector<Node>& nodes) {
  Node node;
  node.path = path;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      node.options.emplace_back(Cat("--", name), option->get_description());
    }
  }
  const std::vector<const CLI::App*> subs =
      app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : subs) {
    node.verbs.emplace_back(sub->get_name(), sub->get_description());
  }
  nodes.push_back(node);
  for (const CLI::App* sub : subs) {
    Collect(*sub,
            path.empty() ? sub->get_name() : Cat(path, " ", sub->get_name()),
            nodes);
  }
}

std::string Words(const Node& node, const Node& root) {
  std::string out;
  const auto add = [&](const std::string& word) {
    CatInto(out, out.empty() ? "" : " ", word);
  };
  for (const auto& [name, help] : node.verbs) add(name);
  for (const auto& [name, help] : node.options) add(name);
  if (&node != &root) {
    for (const auto& [name, help] : root.options) {
      if (name != "--help" && name != "--version") add(name);
    }
  }
  return out;
}

// Shell code that leaves the typed verbs in $path_. Words that are no verb of
// the tree are values and are passed over.
std::string PathCases(const std::vector<Node>& nodes) {
  std::string out;
  for (const Node& node : nodes) {
    for (const auto& [name, help] : node.verbs) {
      CatInto(out, "      \"", node.path, "/", name, "\") path_=\"",
              node.path.empty() ? name : Cat(node.path, " ", name), "\" ;;\n");
    }
  }
  return out;
}
std::string WordCases(const std::vector<Node>& nodes) {
  std::string out;
  for (const Node& node : nodes) {
    CatInto(out, "    \"", node.path, "\") words_=\"", Words(node, nodes[0]),
            "\" ;;\n");
  }
  return out;
}

std::string Bash(const std::vector<Node>& nodes) {
  return Cat(
      "# bash completion of consilium; load it with\n"
      "#   source <(consilium completion bash)\n"
      "_consilium() {\n"
      "  local path_= words_= i\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    case \"$path_/${COMP_WORDS[i]}\" in\n",
      PathCases(nodes),
      "    esac\n"
      "  done\n"
      "  case \"$path_\" in\n",
      WordCases(nodes),
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words_\" -- \"${COMP_WORDS[COMP_CWORD]}\"))"
      "\n"
      "}\n"
      "complete -o default -F _consilium consilium\n");
}

std::string Zsh(const std::vector<Node>& nodes) {
  return Cat(
      "#compdef consilium\n"
      "# zsh completion of consilium; load it with\n"
      "#   source <(consilium completion zsh)\n"
      "_consilium() {\n"
      "  local path_= words_= i\n"
      "  for ((i = 2; i < CURRENT; ++i)); do\n"
      "    case \"$path_/${words[i]}\" in\n",
      PathCases(nodes),
      "    esac\n"
      "  done\n"
      "  case \"$path_\" in\n",
      WordCases(nodes),
      "  esac\n"
      "  compadd -- ${=words_}\n"
      "  [[ ${words[CURRENT]} == -* ]] || _files\n"
      "}\n"
      "compdef _consilium consilium\n");
}

// In single quotes, as fish reads them.
std::string FishQuoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "'";
}

std::string Fish(const std::vector<Node>& nodes) {
  std::string out =
      "# fish completion of consilium; load it with\n"
      "#   consilium completion fish | source\n";
  const auto condition = [&](const Node& node) {
    if (node.path.empty()) return std::string("__fish_use_subcommand");
    std::string all;
    for (size_t at = 0; at < node.path.size();) {
      const size_t end = std::min(node.path.find(' ', at), node.path.size());
      CatInto(all, all.empty() ? "" : "; and ", "__fish_seen_subcommand_from ",
              node.path.substr(at, end - at));
      at = end + 1;
    }
    if (!node.verbs.empty()) {
      all += "; and not __fish_seen_subcommand_from";
      for (const auto& [name, help] : node.verbs) CatInto(all, " ", name);
    }
    return all;
  };
  for (const Node& node : nodes) {
    const std::string when = FishQuoted(condition(node));
    for (const auto& [name, help] : node.verbs) {
      CatInto(out, "complete -c consilium -n ", when, " -f -a ", name, " -d ",
              FishQuoted(help), "\n");
    }
    for (const auto& [name, help] : node.options) {
      // The root's options go with every verb.
      CatInto(out, "complete -c consilium",
              node.path.empty() ? "" : Cat(" -n ", when), " -l ",
              name.substr(2), " -d ", FishQuoted(help), "\n");
    }
  }
  return out;
}

}  // namespace

void AddCompletionCommand(CLI::App& root, Cli& cli) {
  const auto shell = std::make_shared<std::string>();
  CommandGroup(&root)
      .Verb("completion", "A completion script for a shell",
            "source <(consilium completion bash)")
      .Argument("SHELL", shell.get(), "bash, zsh or fish")
      .OneOf({"bash", "zsh", "fish"})
      .Action(cli, [&root, &cli, shell] {
        std::vector<Node> nodes;
        Collect(root, "", nodes);
        cli.out() << (*shell == "bash"  ? Bash(nodes)
                      : *shell == "zsh" ? Zsh(nodes)
                                        : Fish(nodes));
        return absl::OkStatus();
      });
}

}  // namespace consilium
