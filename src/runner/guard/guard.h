// The guard: one small process per attempt, between the daemon and the program. It launches the program,
// reads its output, reaps it and all it left behind, and writes exit.json. It outlives the daemon.
//
// Single-threaded; the daemon talks to it over fd 3, later daemons over <folder>/guard.sock.
#pragma once

namespace hivemetal::runner {

// Runs the attempt whose spec comes as the first line on `fd`; returns the process's exit code.
int run_guard(int fd);

}  // namespace hivemetal::runner
