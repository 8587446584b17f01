using Microsoft.Diagnostics.Runtime;
using NativeLeaks.Heap;
using NativeLeaks.Heap.Managed;
using NativeLeaks.RuntimeReader;
using NativeLeaks.Tests.Heap;

namespace NativeLeaks.Attach.Tests;

/// <summary>What is live, by our reading of the heap and by ClrMD's, which is slow and knows it in its own way.</summary>
[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class ManagedHeapModelTests
{
    [TestCase("hold")]
    [TestCase("hold", "DOTNET_GCName", "libclrgc.so")]
    [TestCase("hold", "DOTNET_gcServer", "1")]
    public void The_same_objects_are_live_as_ClrMD_finds(string mode, string? setting = null, string value = "")
    {
        using StoppedProgram program = setting is null ? StoppedProgram.Start(mode) : StoppedProgram.Start(mode, (setting, value));
        StandingProcess memory = program.StandStill();
        using ManagedHeap heap = ManagedHeap.Open(memory);
        heap.Flood(heap.Roots, program.Targets(), []);

        using var model = new ClrMdModel(memory);
        HashSet<ulong> reachable = model.ReachableFrom(heap.Roots.Select(static r => r.Object));
        Assert.That(heap.LiveObjects, Is.EqualTo(reachable.Count));
        Assert.That(reachable.Where(o => !heap.IsMarked(o)), Is.Empty);
        Assert.That(model.HandledObjects().Except(heap.Roots.Select(static r => r.Object)), Is.Empty);
        Assert.That(model.SomeInteriorAddresses().Where(a => heap.ObjectAt(a.Inside) != a.Object), Is.Empty);
    }

    private sealed class ClrMdModel : IDisposable
    {
        private readonly DataTarget _target;
        private readonly ClrRuntime _runtime;

        public unsafe ClrMdModel(StandingProcess memory)
        {
            MemoryMapping runtime = memory.Mappings.First(static m => m.Offset == 0 && Path.GetFileName(m.Path) == "libcoreclr.so");
            var reader = new CopiedMemory(runtime.Start, runtime.Path)
            {
                Source = (address, buffer, bytes) => memory.Read(address, new Span<byte>((void*)buffer, bytes)),
                ProcessId = memory.ProcessId,
            };
            _target = new DataTarget(reader, new DataTargetOptions { FileLocator = new LocalFilesOnly(), SymbolPaths = [] });
            _runtime = _target.ClrVersions[0].CreateRuntime();
        }

        public HashSet<ulong> ReachableFrom(IEnumerable<ulong> roots)
        {
            HashSet<ulong> reachable = [];
            Stack<ulong> next = new(roots);
            while (next.TryPop(out ulong address))
            {
                if (reachable.Add(address))
                {
                    // A dependent handle may have no second object.
                    foreach (ClrObject other in _runtime.Heap.GetObject(address)
                        .EnumerateReferences(carefully: false, considerDependantHandles: true).Where(static o => o.Address != 0))
                    {
                        next.Push(other.Address);
                    }
                }
            }

            return reachable;
        }

        public IEnumerable<ulong> HandledObjects() =>
            _runtime.EnumerateHandles()
                // Not by IsStrong: it knows nothing of the weak handles that lead to the statics of collectible types.
                .Where(static h => h.HandleKind is ClrHandleKind.Strong or ClrHandleKind.Pinned or ClrHandleKind.AsyncPinned or ClrHandleKind.SizedRef)
                .Where(static h => h.Object.Address != 0)
                .Select(static h => h.Object.Address);

        public IEnumerable<(ulong Object, ulong Inside)> SomeInteriorAddresses() =>
            _runtime.Heap.EnumerateObjects().Where(static o => !o.IsFree).Where(static (_, i) => i % 7 == 0)
                .SelectMany(static o => new[] { (o.Address, o.Address), (o.Address, o.Address + (o.Size / 2)) });

        public void Dispose()
        {
            _runtime.Dispose();
            _target.Dispose();
        }
    }
}
