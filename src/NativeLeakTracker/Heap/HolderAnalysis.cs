using NativeLeaks.Capture;
using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>What the analysis knows of the scope that is judged.</summary>
/// <param name="IsInScope">Whether blocks of an epoch were made in the scope, and not before it.</param>
/// <param name="Opened">Where the scope was opened; null of one that covers the whole process.</param>
/// <param name="Asked">Where the judgement is asked for.</param>
/// <param name="AskedFrom">Where the part of that stack begins that is not the tracker's own.</param>
internal sealed record JudgedScope(Func<uint, bool> IsInScope, StackPlace? Opened, StackPlace Asked, ulong AskedFrom);

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
                return new HeldMemory(copy, new LedgerReader(new FrozenLedger(ledger, copy)), scope).Search();
            }
            catch (HeapUnavailableException e)
            {
                copy.Dispose();
                reason = e.Message;
                return null;
            }
            catch (TornCopyException) when (attempt < Tries)
            {
                copy.Dispose();
                Thread.Sleep(attempt);
            }
            catch (TornCopyException e)
            {
                copy.Dispose();
                reason = $"{Tries} copies of the process in a row were caught in the middle of a change ({e.Message})";
                return null;
            }
        }
    }
}
