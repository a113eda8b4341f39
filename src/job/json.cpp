// Names of enumerations, and the spec as JSON.
#include <nlohmann/json.hpp>

#include "job/job.h"
#include "job/units.h"

namespace hivemetal::job {

std::string_view name_of(Kind kind) { return kind == Kind::Train ? "train" : "task"; }

std::string_view name_of(Runtime runtime) { return runtime == Runtime::Baremetal ? "baremetal" : "docker"; }

std::string_view name_of(Egress egress) {
  switch (egress) {
    case Egress::None:
      return "none";
    case Egress::Swarm:
      return "swarm";
    case Egress::Internet:
      return "internet";
  }
  return "none";
}

std::string_view name_of(PortKind kind) {
  switch (kind) {
    case PortKind::Http:
      return "http";
    case PortKind::Gradio:
      return "gradio";
    case PortKind::Jupyter:
      return "jupyter";
    case PortKind::Kernel:
      return "kernel";
    case PortKind::Tcp:
      return "tcp";
  }
  return "http";
}

nlohmann::json to_json(const JobSpec& spec) {
  nlohmann::json json = {
      {"name", spec.name},
      {"kind", name_of(spec.kind)},
      {"runtime", name_of(spec.runtime)},
      {"nodes", {{"min", spec.nodes.min}, {"max", spec.nodes.max}}},
      {"resources",
       {{"cpus", spec.resources.cpus},
        {"memory", format_size(spec.resources.memory_bytes)},
        {"disk", format_size(spec.resources.disk_bytes)},
        {"gpus", spec.resources.gpus},
        {"gpu_memory", format_size(spec.resources.gpu_memory_bytes)}}},
      {"files", spec.files},
      {"command", spec.command},
      {"env", nlohmann::json(spec.env)},
      {"network", {{"egress", name_of(spec.egress)}}},
      {"restart", {{"max", spec.restart.max}, {"backoff", format_duration(spec.restart.backoff)}}},
      {"stop", {{"grace", format_duration(spec.grace)}}},
  };
  if (!spec.image.empty()) json["image"] = spec.image;
  if (!spec.environment.host.empty()) json["environment"] = {{"host", spec.environment.host}};
  if (!spec.environment.requirements.empty())
    json["environment"] = {{"requirements", spec.environment.requirements}};
  if (spec.checkpoint) {
    json["checkpoint"] = {{"path", spec.checkpoint->path},
                          {"every", format_duration(spec.checkpoint->every)},
                          {"keep", spec.checkpoint->keep}};
  }
  json["ports"] = nlohmann::json::array();
  for (const Port& port : spec.ports) {
    json["ports"].push_back({{"name", port.name}, {"port", port.port}, {"kind", name_of(port.kind)}});
  }
  return json;
}

}  // namespace hivemetal::job
