package bulk;

import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

/** Adds up how long one thread worked at something: CPU seconds, and seconds on the wall. */
final class Stopwatch {
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private long cpu;
    private long wall;
    private long cpuStarted;
    private long wallStarted;

    void start() {
        cpuStarted = THREADS.getCurrentThreadCpuTime();
        wallStarted = System.nanoTime();
    }

    void stop() {
        cpu += THREADS.getCurrentThreadCpuTime() - cpuStarted;
        wall += System.nanoTime() - wallStarted;
    }

    double cpuSeconds() {
        return cpu / 1e9;
    }

    double wallSeconds() {
        return wall / 1e9;
    }
}
