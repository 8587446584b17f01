using NativeLeaks.Capture;
using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>What the analysis knows of the scope that is judged.</summary>
/// <param name="IsRuntimes">Whether the .NET runtime, or the dynamic linker, made the blocks of a context for itself.</param>
/// <param name="IsFrameworkLibrarys">Whether a native library that the framework uses made the blocks of a context for itself.</param>
/// <param name="IsInScope">Whether blocks of an epoch were made in the scope, and not before it.</param>
/// <param name="Asked">Where the judgement is asked for.</param>
/// <param name="AskedFrom">Where the part of that stack begins that is not the tracker's own.</param>
internal sealed record JudgedScope(
    Func<uint, bool> IsRuntimes, Func<uint, bool> IsFrameworkLibrarys, Func<uint, bool> IsInScope, StackPlace Asked, ulong AskedFrom);

/// <summary>
/// Finds what holds each native block of this process, in a frozen copy of it: managed objects by what is live, native memory
/// conservatively. Repeats with another copy where one was caught in the middle of a change.
/// </summary>
internal static class HolderAnalysis
{
    // A copy that was made while garbage was collected shows a heap that cannot be read.
    private const int Tries = 12;

    /// <summary>Null: <paramref name="reason"/> says, for people, why it could not be done.</summary>
    public static Holders? Look(LedgerHome ledger, JudgedScope scope, out string? reason)
    {
        for (int attempt = 1; ; attempt++)
        {
            FrozenCopy? copy = FrozenCopy.TryMake(out reason);
            if (copy is null)
            {
                return null;
            }

            try
            {
                return Look(copy, new LedgerReader(new FrozenLedger(ledger, copy)), scope);
            }
            catch (HeapUnavailableException e)
            {
                reason = e.Message;
                return null;
            }
            catch (TornCopyException) when (attempt < Tries)
            {
                Thread.Sleep(attempt);
            }
            catch (TornCopyException e)
            {
                reason = $"{Tries} copies of the process in a row were caught in the middle of a change ({e.Message})";
                return null;
            }
        }
    }

    private static Holders Look(FrozenCopy copy, LedgerReader ledger, JudgedScope scope)
    {
        ManagedHeap? heap = null;
        FrozenWords? words = null;
        Holders? found = null;
        try
        {
            heap = ManagedHeap.Open(copy);
            words = new FrozenWords(copy);
            return found = new HeldMemory(copy, heap, words, ledger, scope).Search();
        }
        finally
        {
            if (found is null)
            {
                words?.Dispose();
                heap?.Dispose();
                copy.Dispose();
            }
        }
    }
}
