namespace NativeLeaks.Reports;

/// <summary>Which frames of a stack are the owner's, and which nobody has to read.</summary>
internal static class OwnFrames
{
    // They stand outside the owner's code and call it: true of each stack, and no news.
    private static readonly string[] s_surroundings =
    [
        "System.", "Microsoft.VisualStudio.", "Microsoft.TestPlatform.", "Microsoft.Testing.", "nunit.", "NUnit", "xunit.", "MSTest",
        "testhost", "NativeLeakTracker.",
    ];

    /// <summary>Where the owner's frames begin; the length of the stack when it has none.</summary>
    public static int IndexIn(LeakGroup group)
    {
        int managed = IndexOf(group, static f => f.Kind == LeakFrameKind.Managed);
        return managed < group.Stack.Count ? managed : IndexOf(group, static _ => true);
    }

    /// <summary>The innermost frame of the owner; null when it has none.</summary>
    public static LeakFrame? Of(LeakGroup group) => IndexIn(group) is var index && index < group.Stack.Count ? group.Stack[index] : null;

    /// <summary>Whether the frame is of the runtime, the framework or a test runner.</summary>
    public static bool IsSurrounding(LeakFrame frame) =>
        frame.Kind == LeakFrameKind.Runtime ||
        (frame is { Kind: LeakFrameKind.Managed, Module: { } module } &&
         Array.Exists(s_surroundings, s => module.StartsWith(s, StringComparison.OrdinalIgnoreCase) && !IsOfTests(module)));

    // Projects are named after what they test: NativeLeakTracker.Tests, NUnit.Extras.Tests.
    private static bool IsOfTests(string module) => module.Contains("Tests", StringComparison.Ordinal);

    private static int IndexOf(LeakGroup group, Func<LeakFrame, bool> condition)
    {
        int index = 0;
        while (index < group.Stack.Count && !(group.Stack[index].Module is { } m && m == group.Owner && condition(group.Stack[index])))
        {
            index++;
        }

        return index;
    }
}
