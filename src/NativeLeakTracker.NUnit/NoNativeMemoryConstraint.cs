using System.Reflection;
using System.Runtime.ExceptionServices;
using NativeLeaks.Adapters;
using NUnit.Framework;
using NUnit.Framework.Constraints;

namespace NativeLeaks;

/// <summary>See <see cref="Leaks.NoNativeMemory"/>.</summary>
public sealed class NoNativeMemoryConstraint : Constraint
{
    private NativeLeakOptions _options = NativeLeakOptions.Default;

    /// <inheritdoc/>
    public override string Description => "a delegate that frees the native memory it allocates";

    /// <summary>Has the delegate judged by these options.</summary>
    public NoNativeMemoryConstraint Using(NativeLeakOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        return this;
    }

    /// <inheritdoc/>
    public override ConstraintResult ApplyTo<TActual>(TActual actual)
    {
        if (actual is not Delegate code)
        {
            throw new ArgumentException(
                "Leaks.NoNativeMemory judges what happens while code runs: give Assert.That a delegate, '() => Bind()'.", nameof(actual));
        }

        using NativeLeakTracker tracker = NativeLeakTracker.Start(_options);
        Run(code);
        return Judge(tracker, code);
    }

    /// <inheritdoc/>
    public override ConstraintResult ApplyTo<TActual>(Func<TActual> code) => ApplyTo<Delegate>(code);

    /// <inheritdoc/>
    public override async Task<ConstraintResult> ApplyToAsync<TActual>(Func<Task<TActual>> taskDel)
    {
        ArgumentNullException.ThrowIfNull(taskDel);
        using NativeLeakTracker tracker = NativeLeakTracker.Start(_options);
        await taskDel().ConfigureAwait(false);
        return Judge(tracker, taskDel);
    }

    private static void Run(Delegate code)
    {
        // Continuations go to the thread pool: they must not wait for the thread that waits for them.
        SynchronizationContext? before = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        try
        {
            switch (code.DynamicInvoke())
            {
                case Task task:
                    task.GetAwaiter().GetResult();
                    break;
                case ValueTask task:
                    task.AsTask().GetAwaiter().GetResult();
                    break;
            }
        }
        catch (TargetInvocationException e) when (e.InnerException is not null)
        {
            ExceptionDispatchInfo.Throw(e.InnerException);
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(before);
        }
    }

    private Result Judge(NativeLeakTracker tracker, Delegate code)
    {
        NativeLeakException? leak = null;
        try
        {
            tracker.AssertNoLeaks();
        }
        catch (NativeLeakException e)
        {
            leak = e;
        }

        return new Result(this, code, leak);
    }

    private sealed class Result(NoNativeMemoryConstraint constraint, Delegate code, NativeLeakException? leak)
        : ConstraintResult(constraint, code, isSuccess: leak is null)
    {
        public override void WriteMessageTo(MessageWriter writer)
        {
            if (leak is null)
            {
                base.WriteMessageTo(writer);
                return;
            }

            LeakFinding finding = LeakFinding.Of(
                leak, TestContext.CurrentContext.WorkDirectory, TestContext.CurrentContext.Test.FullName);
            foreach (string file in finding.Files)
            {
                TestContext.AddTestAttachment(file, "Native memory that the delegate left behind");
            }

            writer.Write(finding.Message);
        }

        public override void WriteActualValueTo(MessageWriter writer) =>
            writer.Write(leak is null ? "no native leak" : leak.Message);
    }
}
