// Fixtures that do nothing but run programs of their own are [Parallelizable]: two at a time, before all others. Those that watch this process, count
// what it uses or put a load on the machine run alone.
[assembly: LevelOfParallelism(2)]
