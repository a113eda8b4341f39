#include "node/show/tables.h"

#include <fmt/format.h>

#include "node/show/text.h"

namespace hivemetal::node::show {

namespace {

using nlohmann::json;

const json& list_in(const json& object, const char* key) {
  static const json kNone = json::array();
  if (!object.is_object()) return kNone;
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kNone;
}

std::string short_peer(const std::string& peer) {
  return peer.size() > 8 ? peer.substr(peer.size() - 8) : peer;
}

double busy_share(const json& node) {
  const double total = number_in(node, "cpus_total");
  return total > 0 ? number_in(node, "load") / total : 0;
}

bool is_over(const json& run) {
  const auto state = text_in(run, "state");
  return state == "finished" || state == "failed" || state == "stopped";
}

std::string workers_of(const json& run) {
  std::size_t running = 0;
  const auto& workers = list_in(run, "workers");
  for (const auto& worker : workers) running += text_in(worker, "state") == "running" ? 1 : 0;
  return fmt::format("{}/{:.0f}", running,
                     number_in(run, "workers_max", static_cast<double>(workers.size())));
}

std::string age_of(const json& run, double now_unix) {
  const double ended = number_in(run, "ended");
  return duration_text((ended > 0 ? ended : now_unix) - number_in(run, "submitted", now_unix));
}

std::string metric(const json& metrics, const char* key, const char* format) {
  return has_number(metrics, key) ? fmt::format(fmt::runtime(format), number_in(metrics, key)) : "–";
}

const json& metrics_of(const json& worker) {
  static const json kNone;
  if (!worker.is_object()) return kNone;
  const auto found = worker.find("metrics");
  return found == worker.end() ? kNone : *found;
}

// Sums and means over the workers that run.
std::string run_headline(const json& run, double now_unix) {
  double rate = 0;
  double loss = 0;
  double accuracy = 0;
  double epoch = -1;
  int with_loss = 0;
  int with_accuracy = 0;
  for (const auto& worker : list_in(run, "workers")) {
    const auto& metrics = metrics_of(worker);
    if (text_in(worker, "state") == "running") rate += number_in(metrics, "samples_per_second");
    epoch = std::max(epoch, number_in(metrics, "epoch", -1));
    if (has_number(metrics, "loss")) loss += number_in(metrics, "loss"), ++with_loss;
    if (has_number(metrics, "accuracy")) accuracy += number_in(metrics, "accuracy"), ++with_accuracy;
  }
  auto text = fmt::format("{}  {}  {} workers  {}", text_in(run, "id"), text_in(run, "state"),
                          workers_of(run), age_of(run, now_unix));
  if (epoch >= 0) text += fmt::format("  epoch {:.0f}", epoch);
  if (rate > 0) text += fmt::format("  {:.0f} samples/s", rate);
  if (with_loss > 0) text += fmt::format("  loss {:.4f}", loss / with_loss);
  if (with_accuracy > 0) text += fmt::format("  accuracy {:.1f} %", 100 * accuracy / with_accuracy);
  if (!is_over(run) && !text_in(run, "reason").empty()) text += "  (" + text_in(run, "reason") + ")";
  return text;
}

std::string worker_table(const json& run) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& worker : list_in(run, "workers")) {
    const auto& metrics = metrics_of(worker);
    rows.push_back({fmt::format("  {:.0f}", number_in(worker, "worker")), text_in(worker, "state"),
                    text_in(worker, "node_name"), metric(metrics, "epoch", "{:.0f}"),
                    metric(metrics, "samples_per_second", "{:.0f}"), metric(metrics, "loss", "{:.4f}"),
                    metric(metrics, "accuracy", "{:.3f}"), metric(metrics, "peers", "{:.0f}"),
                    size_text(number_in(worker, "memory")),
                    fmt::format("{:.0f}", number_in(worker, "restarts")), text_in(worker, "exit")});
  }
  return table({"  worker", "state", "node", "epoch", "samples/s", "loss", "accuracy", "peers", "memory",
                "restarts", "last exit"},
               rows);
}

std::string node_bars(const json& nodes) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& node : nodes) {
    const double memory = number_in(node, "memory_total");
    const double used = memory > 0 ? 1 - number_in(node, "memory_free") / memory : 0;
    rows.push_back({text_in(node, "name") + (flag_in(node, "self", false) ? " *" : ""),
                    bar(busy_share(node), 12),
                    fmt::format("{:.1f}/{:.3g}", number_in(node, "load"), number_in(node, "cpus_total")),
                    bar(used, 8), size_text(memory), fmt::format("{:.0f}", number_in(node, "workers"))});
  }
  return table({"node", "load", "of cores", "leased", "of memory", "workers"}, rows);
}

}  // namespace

std::string nodes_text(const json& nodes) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& node : list_in(nodes, "nodes")) {
    std::string environments;
    for (const auto& name : list_in(node, "environments")) {
      if (name.is_string())
        environments += (environments.empty() ? "" : ",") + escaped(name.get<std::string>());
    }
    rows.push_back({text_in(node, "name") + (flag_in(node, "self", false) ? " *" : ""),
                    short_peer(text_in(node, "node")),
                    fmt::format("{:.3g}/{:.3g}", number_in(node, "cpus_free"), number_in(node, "cpus_total")),
                    fmt::format("{}/{}", size_text(number_in(node, "memory_free")),
                                size_text(number_in(node, "memory_total"))),
                    fmt::format("{:.2f}", number_in(node, "load")),
                    fmt::format("{:.0f}", number_in(node, "workers")), text_in(node, "confinement"),
                    environments, text_in(node, "version")});
  }
  return table(
      {"name", "peer", "cpus free", "memory free", "load", "workers", "level", "environments", "version"},
      rows);
}

std::string runs_text(const json& runs, double now_unix) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& run : list_in(runs, "runs")) {
    rows.push_back({text_in(run, "id"), text_in(run, "state"), workers_of(run), age_of(run, now_unix),
                    text_in(run, "reason")});
  }
  std::string out = rows.empty()
                        ? "no runs were submitted at this node; start one with: hivemetal run job.yaml\n"
                        : table({"run", "state", "workers", "time", "why"}, rows);
  std::vector<std::vector<std::string>> hosted;
  for (const auto& worker : list_in(runs, "hosted")) {
    hosted.push_back({text_in(worker, "run"), fmt::format("{:.0f}", number_in(worker, "worker")),
                      text_in(worker, "state"), short_peer(text_in(worker, "holder"))});
  }
  if (!hosted.empty())
    out += "\nworkers here, for any node:\n" + table({"run", "worker", "state", "coordinator"}, hosted);
  return out;
}

std::string top_text(const json& snapshot, std::size_t columns, std::size_t rows) {
  const double now = number_in(snapshot, "time");
  const bool one = !text_in(snapshot, "run").empty();
  std::string out = node_bars(list_in(snapshot, "nodes"));
  for (const auto& run : list_in(snapshot, "runs")) {
    if (!one && is_over(run)) continue;
    out += "\n" + run_headline(run, now) + "\n" + worker_table(run);
  }
  // Cut here: a line that wraps would leave remains on the screen.
  std::string cut;
  std::size_t lines = 0;
  for (std::size_t begin = 0; begin < out.size() && (rows == 0 || lines < rows); ++lines) {
    const auto end = out.find('\n', begin);
    cut += (columns == 0 ? out.substr(begin, end - begin)
                         : fitted(std::string_view(out).substr(begin, end - begin), columns)) +
           "\n";
    begin = end + 1;
  }
  return cut;
}

}  // namespace hivemetal::node::show
