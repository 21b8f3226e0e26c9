# SPDX-License-Identifier: Apache-2.0
"""Sections of a panel that hide what is in them when they are collapsed, as CTK's do."""

from PySide6 import QtCore, QtGui, QtWidgets

_HEADER_HEIGHT = 24


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that shows its children when it is checked, and hides them (and keeps them hidden) when it is not."""

    slicerClass = True
    contentsCollapsed = QtCore.Signal(bool)
    _hiddenByUser: "set | None" = None
    _forcing = False
    collapsed = QtCore.Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def __init__(self, text="", parent=None):
        super().__init__(text if isinstance(text, QtWidgets.QWidget) else parent)
        self._hiddenByUser = set()
        if isinstance(text, str):
            self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, _HEADER_HEIGHT, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.toggled.connect(self._onToggled)

    @QtCore.Slot(bool)
    def _onToggled(self, checked: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            self._force(child, checked and child not in self._hiddenByUser)
        self.updateGeometry()
        self.contentsCollapsed.emit(not checked)

    def _force(self, child: QtWidgets.QWidget, visible: bool) -> None:
        self._forcing = True
        child.setVisible(visible)
        self._forcing = False

    def childEvent(self, event):
        """Called by Qt: a child that comes later is treated as the others are."""
        child = event.child()
        if event.type() == QtCore.QEvent.ChildAdded and child.isWidgetType():
            child.installEventFilter(self)
            if self.collapsed:
                self._force(child, False)

    def eventFilter(self, child, event) -> bool:
        """Called by Qt when a child is shown or hidden by somebody else: what they want takes effect once expanded."""
        if not self._forcing and event.type() == QtCore.QEvent.ShowToParent:
            self._hiddenByUser.discard(child)
            if self.collapsed:
                self._force(child, False)
        elif not self._forcing and event.type() == QtCore.QEvent.HideToParent:
            self._hiddenByUser.add(child)
        return False

    def hitButton(self, position) -> bool:
        """Called by Qt: only the header can be clicked."""
        return position.y() < _HEADER_HEIGHT

    def sizeHint(self):
        """Called by Qt: the header, and the contents below it when they are shown."""
        return self.minimumSizeHint()

    def minimumSizeHint(self):
        """Called by Qt."""
        if self.collapsed or self.layout() is None:
            return QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text) + 2 * _HEADER_HEIGHT, _HEADER_HEIGHT)
        return self.layout().totalMinimumSize()

    def paintEvent(self, _event):
        """Called by Qt."""
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width, _HEADER_HEIGHT - 2)
        painter.fillRect(header, QtGui.QColor(220, 225, 230))
        arrow = "▸" if self.collapsed else "▾"
        painter.drawText(header.adjusted(6, 0, 0, 0), QtCore.Qt.AlignVCenter, f"{arrow}  {self.text}")
        painter.end()


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that hides its children when it is collapsed."""

    slicerClass = True
    collapsed = QtCore.Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._onToggled)

    @QtCore.Slot(bool)
    def _onToggled(self, checked: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            child.setVisible(checked)
