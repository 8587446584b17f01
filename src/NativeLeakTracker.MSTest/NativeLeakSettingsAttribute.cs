using NativeLeaks.Adapters;

namespace NativeLeaks;

/// <summary>
/// How the tests of <see cref="NativeLeakTestMethodAttribute"/> and <see cref="NativeLeakTestClassAttribute"/> are judged, on a method, a
/// class or an assembly; the nearest to the test decides. By itself it asserts nothing.
/// </summary>
[AttributeUsage(AttributeTargets.Method | AttributeTargets.Class | AttributeTargets.Assembly)]
public sealed class NativeLeakSettingsAttribute : LeakSettingsAttribute;
